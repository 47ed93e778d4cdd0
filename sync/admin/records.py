"""What was read for accounts, as lists to look up: posts, comments, runs, dead letters."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from lifecycle.console.live import DASH, LiveList, ReadOnlyAdmin, badge, moment
from sync.admin.forms import as_json
from sync.models import Comment, DeadLetter, Post, SyncRun
from sync.types import RunOutcome


def clipped(text: str) -> SafeString | str:
    """One line of a text, whole when the pointer rests on it."""
    if not text:
        return DASH
    return format_html('<span class="m-clip" title="{}">{}</span>', text[:1000], text[:200])


class RecordAdmin(LiveList, ReadOnlyAdmin):
    """A long list: no total is counted, the newest come first."""

    list_select_related = ["account"]
    list_filter = ["account"]
    list_per_page = 50
    show_full_result_count = False


@admin.register(Post)
class PostAdmin(RecordAdmin):
    list_display = ["what", "author_name", "account", "published"]
    search_fields = ["title", "text", "author_name", "external_id"]
    date_hierarchy = "published_at"

    @admin.display(description=_("post"))
    def what(self, post: Post) -> SafeString | str:
        return clipped(post.title or post.text or post.external_id)

    @admin.display(description=_("published"), ordering="published_at")
    def published(self, post: Post) -> SafeString | str:
        return moment(post.published_at)


@admin.register(Comment)
class CommentAdmin(RecordAdmin):
    list_display = ["what", "author_name", "on_post", "account", "published"]
    list_filter = ["direction", "account"]
    list_select_related = ["account", "post"]
    search_fields = ["text", "author_name", "external_id"]
    raw_id_fields = ["post"]

    @admin.display(description=_("comment"))
    def what(self, comment: Comment) -> SafeString | str:
        return clipped(comment.text or comment.external_id)

    @admin.display(description=_("post"))
    def on_post(self, comment: Comment) -> SafeString | str:
        return clipped(str(comment.post))

    @admin.display(description=_("published"), ordering="published_at")
    def published(self, comment: Comment) -> SafeString | str:
        return moment(comment.published_at)


@admin.register(SyncRun)
class SyncRunAdmin(RecordAdmin):
    list_display = [
        "finished",
        "account",
        "result",
        "read",
        "new",
        "changed",
        "same",
        "refused",
        "took",
        "worker_id",
        "trouble",
    ]
    list_filter = ["outcome", "account"]
    search_fields = ["worker_id", "error", "account__identifier"]
    list_fullwidth = True

    @admin.display(description=_("finished"), ordering="id")
    def finished(self, run: SyncRun) -> SafeString | str:
        return moment(run.finished_at)

    @admin.display(description=_("outcome"), ordering="outcome")
    def result(self, run: SyncRun) -> SafeString:
        tone = "green" if run.outcome == RunOutcome.COMMITTED else "red"
        return badge(run.get_outcome_display(), tone)

    @admin.display(description=_("duration"), ordering="duration_ms")
    def took(self, run: SyncRun) -> str:
        return f"{run.duration_ms:.0f} ms"

    @admin.display(description=_("error"))
    def trouble(self, run: SyncRun) -> SafeString | str:
        return clipped(run.error)


@admin.register(DeadLetter)
class DeadLetterAdmin(RecordAdmin):
    """Records that did not validate. The raw record is decrypted on its own page alone."""

    list_display = ["kind", "external_id", "account", "why", "at"]
    list_filter = ["kind", "account"]
    search_fields = ["external_id", "error"]
    exclude = ["raw"]
    readonly_fields = ["record"]

    @admin.display(description=_("error"))
    def why(self, letter: DeadLetter) -> SafeString | str:
        return clipped(letter.error)

    @admin.display(description=_("time"), ordering="id")
    def at(self, letter: DeadLetter) -> SafeString | str:
        return moment(letter.created_at)

    @admin.display(description=_("raw record"))
    def record(self, letter: DeadLetter) -> SafeString:
        return format_html('<pre class="m-raw">{}</pre>', as_json(letter.raw))
