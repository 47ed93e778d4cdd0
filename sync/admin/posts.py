"""Posts and their comments: the list, and the page of one post with its tree of comments [S14]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from lifecycle.console.ids import row_id
from lifecycle.console.live import moment, polls
from sync import platforms, queries
from sync.admin.by_account import BY_ACCOUNT
from sync.admin.looks import face, platform_label
from sync.admin.records import RecordAdmin, clipped
from sync.admin.reply_box import reply_box
from sync.admin.versions import former
from sync.models import Comment, Post
from sync.types import RecordKind

SHOWN = 500  # comments of one post, the newest
DEEPEST = 5  # steps to the right; what is deeper stays there


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

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The post and its comments; asked for anew as `live-comments`."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if (found := row_id(object_id)) is None:
            raise Http404
        rows = Post.objects.select_related("account").defer(*queries.OF_ACCOUNT)
        post = get_object_or_404(rows, pk=found)
        platform = platforms.registry().get(post.account.platform)
        total, comments = post.comments.count(), newest(post)
        before = former(RecordKind.COMMENT, comments)
        context: dict[str, Any] = {
            "tree": [
                (one, depth, moment(one.published_at), before.get(one.pk, []))
                for one, depth in tree(comments)
            ],
            "total": total,
            "shown": SHOWN,
            "cut": total > SHOWN,
            "may_operate": request.user.has_perm("sync.operate_account"),
            "takes_comments": bool(platform and RecordKind.COMMENT in platform.replies_to),
        }
        if polls(request, "live-comments"):
            return TemplateResponse(request, "console/comment_tree.html", context)
        context |= {
            **self.admin_site.each_context(request),
            **reply_box(post),
            "title": str(post),
            "opts": self.opts,
            "original": post,
            "post": post,
            "former": former(RecordKind.POST, [post]).get(post.pk, []),
            "face": face(post.author_name or post.author_id),
            "platform": platform_label(post.account.platform),
            "published": moment(post.published_at),
            "link": post.url if post.url.startswith(("https://", "http://")) else "",
        }
        return TemplateResponse(request, "console/post.html", context)


@admin.register(Comment)
class CommentAdmin(RecordAdmin):
    list_display = ["what", "author_name", "on_post", "account", "published"]
    list_filter = ["direction", BY_ACCOUNT]
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


def newest(post: Post) -> list[Comment]:
    """Its newest comments, the oldest of them first."""
    return list(post.comments.order_by("-published_at", "-pk")[:SHOWN])[::-1]


def tree(comments: list[Comment]) -> Iterator[tuple[Comment, int]]:
    """Each comment once, below the one that it answers, with its depth.

    One whose parent is not here (not shown, not known, or itself) stands at the top; so does one of
    a circle, which no platform should send.
    """
    known = {one.external_id for one in comments}
    below: dict[str, list[Comment]] = defaultdict(list)
    for one in comments:
        parent = one.parent_external_id
        below[parent if parent in known and parent != one.external_id else ""].append(one)
    done: set[int] = set()
    for begin in (below[""], comments):
        todo = [(one, 0) for one in reversed(begin) if one.pk not in done]
        while todo:
            one, depth = todo.pop()
            if one.pk in done:
                continue
            done.add(one.pk)
            yield one, min(depth, DEEPEST)
            todo += [(child, depth + 1) for child in reversed(below[one.external_id])]
