"""What the Telegram adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("this token is @%(username)s's (%(id)s), not %(other)s's"),
    _("Telegram does not take the bot token (%(cause)s)"),
    _("HTTP %(status)s in answer to %(method)s: is this a Bot API?"),
    _("Telegram: %(answer)s - %(cause)s"),
    _(
        "a webhook is set for this bot, so it can't be polled: give the account the webhook_secret "
        "that was set with it, or delete the webhook (deleteWebhook)"
    ),
    _("somebody else polls this bot with the same token: only one may"),
    _(
        "the account has a webhook_secret, but no webhook is set at Telegram: call setWebhook as "
        "the account's page says, or take the webhook_secret away"
    ),
    _(
        "it may have been sent: the connection broke before Telegram answered, and a bot can't "
        "ask. Look at the chat before you send it again"
    ),
    _("updates %(first)s to %(last)s were not read within 24 hours; Telegram keeps no copy"),
    _("the account has no webhook_secret"),
    _("another secret token"),
)
