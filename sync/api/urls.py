"""Addresses of sync's API, below /api/v1."""

from __future__ import annotations

from django.urls import path, re_path
from rest_framework.routers import SimpleRouter

from sync.api import accounts, deadletters, events, hooks, inbox, logins, replies

router = SimpleRouter(trailing_slash=False)
router.register("accounts", accounts.AccountViewSet, basename="account")
router.register("conversations", inbox.ConversationViewSet, basename="conversation")
router.register("messages", inbox.MessageViewSet, basename="message")
router.register("posts", inbox.PostViewSet, basename="post")
router.register("comments", inbox.CommentViewSet, basename="comment")
router.register("platform-servers", accounts.ServerViewSet, basename="platform-server")
router.register("sync-runs", accounts.SyncRunViewSet, basename="sync-run")
router.register("hook-deliveries", hooks.HookDeliveryViewSet, basename="hook-delivery")
router.register("dead-letters", deadletters.DeadLetterViewSet, basename="dead-letter")
router.register("replies", replies.ReplyViewSet, basename="reply")
router.register("login-sessions", logins.LoginSessionViewSet, basename="login-session")
router.register("platforms", inbox.PlatformViewSet, basename="platform")
router.register("inbox", inbox.InboxViewSet, basename="inbox")

router.register("feed", events.FeedViewSet, basename="feed")
router.register("events", events.EventsViewSet, basename="event")

assignment = accounts.AssignmentViewSet.as_view({"get": "retrieve", "patch": "partial_update"})

account_hook = hooks.AccountHookViewSet.as_view({"get": "retrieve"})

urlpatterns = [
    path("assignment", assignment, name="assignment"),
    re_path(r"^accounts/(?P<pk>[0-9]{1,19})/hook$", account_hook, name="account-hook"),
    *router.urls,
]
