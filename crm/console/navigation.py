"""The sidebar: what each user may open."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from sync import queries
from sync.admin.live import feed_position

Item = dict[str, Any]


def sidebar(request: HttpRequest) -> list[Item]:
    """Groups of links for unfold's `SIDEBAR["navigation"]`, each with the right that it needs."""

    def item(title: str | Promise, icon: str, url: str, permission: str = "", **more: Any) -> Item:
        return {
            "title": title,
            "icon": icon,
            "link": reverse(url),
            "permission": lambda request: not permission or request.user.has_perm(permission),
            **more,
        }

    def rows(title: str | Promise, icon: str, model: str, **more: Any) -> Item:
        app, name = model.split(".")
        url = f"admin:{app}_{name}_changelist"
        return item(title, icon, url, f"{app}.view_{name}", **more)

    unread = {"badge": unread_badge(request), "badge_variant": "primary"}
    return [
        {"items": [item(_("Home"), "home", "admin:index")]},
        {
            "title": _("Fleet"),
            "separator": True,
            "items": [
                rows(_("Workers"), "memory", "lifecycle.workerruntime"),
                rows(_("Configs"), "tune", "lifecycle.workerconfig"),
                rows(_("Rolling restarts"), "autorenew", "lifecycle.rollout"),
                rows(_("Lifecycle log"), "history", "lifecycle.workerlog"),
                item(
                    _("Assignment"),
                    "balance",
                    "admin:sync_assignment_changelist",
                    "sync.view_account",
                ),
            ],
        },
        {
            "title": _("Inbox"),
            "separator": True,
            "items": [
                rows(_("Conversations"), "forum", "sync.conversation", **unread),
                rows(_("Accounts"), "account_circle", "sync.account"),
                rows(_("Posts"), "article", "sync.post"),
                rows(_("Comments"), "comment", "sync.comment"),
                item(
                    _("Sync"),
                    "monitoring",
                    "admin:sync_platformserver_changelist",
                    "sync.view_account",
                ),
                rows(_("Sync runs"), "sync", "sync.syncrun"),
                rows(_("Outbox"), "outbox", "sync.reply"),
                rows(_("Webhook deliveries"), "webhook", "sync.hookdelivery"),
                rows(_("Dead letters"), "mark_email_unread", "sync.deadletter"),
                rows(_("Audits"), "fact_check", "sync.audit"),
                rows(_("Gaps"), "contrast", "sync.gap"),
                rows(_("Logins"), "qr_code_2", "sync.loginsession"),
            ],
        },
        {
            "title": _("Tools"),
            "separator": True,
            "items": [
                {
                    **item(_("Flower"), "local_florist", "home", "lifecycle.view_workerruntime"),
                    "link": reverse("flower", args=[""]),
                },
                item(_("API docs"), "api", "docs"),
                rows(_("Periodic tasks"), "schedule", "django_celery_beat.periodictask"),
                rows(_("Task results"), "task", "django_celery_results.taskresult"),
                rows(_("Users"), "person", "auth.user"),
                rows(_("Groups"), "group", "auth.group"),
            ],
        },
    ]


def unread_badge(request: HttpRequest) -> SafeString | str:
    """The figure beside Conversations, which also tells `live.js` from where on to follow the feed.

    "" for who may not see it, and on polls, which show no sidebar.
    """
    if request.headers.get("HX-Request") or not request.user.has_perm("sync.view_conversation"):
        return ""
    position = feed_position(request)  # before the figure is read
    unread = queries.totals()["unread"]
    return format_html(
        '<span data-unread-total data-feed="{}" data-since="{}" data-login="{}"'
        ' data-says-offline="{}" data-says-away="{}" data-says-unanswered="{}">{}</span>',
        reverse("admin:sync_conversation_events"),
        position,
        reverse("inbox-summary"),
        _("No connection to the server; trying again. What is shown may be old."),
        _("The database can't be reached. What is shown may be old."),
        _("The server did not answer. It may have done this all the same: look before you retry."),
        f"{unread:,}" if unread else "",
    )
