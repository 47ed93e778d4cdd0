"""What the WhatsApp adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("the account's identifier is not the id of a phone number (digits)"),
    _("Meta does not take the token for this number: %(cause)s"),
    _("HTTP %(status)s: is this the Graph API?"),
    _("the phone number"),
    _("the message"),
    _("the mark"),
    _("%(cause)s (%(number)s: %(answer)s)"),
    _(
        "more than 24 hours have passed since the customer last wrote: only an approved template "
        "may be sent now, and Muster sends none"
    ),
    _("the message can't be delivered: the number is not on WhatsApp, or takes none from you"),
    _("WhatsApp does not take messages of this type"),
    _("the business account is blocked for policy violations"),
    _("the business account is locked"),
    _(
        "it may have been sent: the connection broke before WhatsApp answered, and there is no way "
        "to ask. Look at the chat before you send it again"
    ),
    _("WhatsApp did not mark it read, and gives no reason"),
    _("WhatsApp reports an error"),
    _("WhatsApp could not deliver what was sent: %(cause)s"),
    _("no reason given"),
    _("it is for another number (%(id)s)"),
    _("it does not say to whom it was sent"),
    _("another verify token"),
)
