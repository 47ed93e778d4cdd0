"""What lists and pages of the admin say of an account."""

from __future__ import annotations

from django.contrib import admin
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from lifecycle.console.live import DASH, age, badge, moment, span, two_lines
from lifecycle.said import said
from sync import platforms, queries
from sync.admin.hooks import panel
from sync.admin.looks import count, face, platform_label
from sync.models import Account
from sync.types import LoginState


def account_badge(account: Account) -> SafeString:
    """One word for where an account stands."""
    if not account.enabled:
        return badge(_("disabled"), "grey")
    error = said(account.present_error)
    if account.login_state == LoginState.FAILED:
        return badge(_("waits for a person"), "red", error)
    if account.stalled_since:
        return badge(_("stalled"), "red", error or queries.why_no_worker(account))
    if account.login_state == LoginState.EXPIRED:
        return badge(_("login expired"), "amber", error)
    if account.error_count:
        return badge(_("error"), "red", error)
    if why := queries.why_no_worker(account):
        return badge(_("no worker"), "amber", why)
    if account.last_sync_at is None:
        return badge(_("first sync"), "blue live")
    if account.backlog:
        return badge(_("catching up"), "blue live", backlog(account))
    return badge(_("in step"), "green live")


def last_error(account: Account) -> SafeString | str:
    """The last error, when it was, and whether it is over."""
    if not account.last_error:
        return DASH
    over = badge(_("over"), "green") if account.error_is_over else badge(_("still there"), "red")
    when = moment(account.last_error_at)
    return format_html("{} {} <small>{}</small>", over, said(account.last_error), when)


def notice(account: Account) -> SafeString | str:
    """What is done just now that people should know of, and since when."""
    if not account.notice:
        return ""
    return format_html("{} <small>{}</small>", said(account.notice), moment(account.notice_at))


def backlog(account: Account) -> str:
    """What is still to be read, where the platform tells."""
    return gettext("about %(n)s to be read") % {"n": f"{account.backlog or 0:,}"}


class AccountColumns:
    """Of `AccountAdmin`."""

    @admin.display(description=_("account"), ordering="name")
    def who(self, account: Account) -> SafeString:
        known_as = f"{account.identifier} · {platform_label(account.platform)}"
        return format_html(
            '<span class="m-who">{}<span class="m-two"><b>{}</b><small>{}</small></span></span>',
            face(str(account)),
            str(account),
            known_as if account.name else platform_label(account.platform),
        )

    @admin.display(description=_("state"), ordering="error_count")
    def standing(self, account: Account) -> SafeString:
        """The state, and below it what is wrong where something is, or what is under way."""
        trouble = said(account.present_error) or queries.why_no_worker(account)
        trouble = trouble or said(account.notice)
        trouble = trouble or (backlog(account) if account.enabled and account.backlog else "")
        return format_html(
            '<span class="m-two m-state">{}<small class="m-clip" title="{}">{}</small></span>',
            account_badge(account),
            trouble,
            trouble,
        )

    @admin.display(description=_("messages"), ordering="messages_total")
    def stored(self, account: Account) -> SafeString:
        """Comments where there are no conversations."""
        if account.posts_total and not account.conversations_total:
            n = account.posts_total
            text = ngettext("comments on %(n)d post", "comments on %(n)d posts", n) % {"n": n}
            return two_lines(f"{account.comments_total:,}", text)
        n = account.conversations_total
        text = ngettext("in %(n)d conversation", "in %(n)d conversations", n) % {"n": n}
        return two_lines(f"{account.messages_total:,}", text)

    @admin.display(description=_("last sync"), ordering="last_sync_at")
    def last_sync(self, account: Account) -> str:
        return age(account.last_sync_at, timezone.now())

    @admin.display(description=_("last sync"))
    def last_synced(self, account: Account) -> SafeString | str:
        return moment(account.last_sync_at)

    @admin.display(description=_("stalled since"))
    def stalled_from(self, account: Account) -> SafeString | str:
        return moment(account.stalled_since)

    @admin.display(description=_("checked every"))
    def checked_every(self, account: Account) -> str:
        """As news come and don't; what is waited on is told at once."""
        platform = platforms.registry().get(account.platform)
        if platform and platform.can_wait:
            return gettext("watched all the time")
        return span(account.current_interval_s or account.interval_s)

    @admin.display(description=_("unread"), ordering="unread_total")
    def unread(self, account: Account) -> SafeString:
        return count("account", account.pk, account.unread_total)

    @admin.display(description=_("pushed by the platform"))
    def webhook(self, account: Account) -> SafeString:
        return panel(account)

    @admin.display(description="")
    def buttons(self, account: Account) -> SafeString:
        return render_to_string("console/account_buttons.html", {"account": account})
