"""What the Douyin adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("open this address, give consent, and hand over the code that it leads back with"),
    _("the consent has run out: %(why)s"),
    _("the consent has run out: give a new refresh_token"),
    _("the code belongs to another login: begin anew"),
    _("there is no code in the answer"),
    _("this consent is %(one)s's, not %(other)s's (open_id)"),
    _("the access token ends soon"),
    _("%(answer)s (error %(error)s)"),
    _("the comments of a work have more than %(n)s pages"),
    _("the replies to a comment have more than %(n)s pages"),
    _("the platform says that there is more, and not where"),
    _("nobody has written in this conversation yet: Douyin only takes answers"),
    _(
        "it may have been sent: the connection broke before Douyin answered, and there is no way "
        "to ask. Look at the conversation before you send it again"
    ),
    _("the comments of this work can't be read: %(cause)s"),
    _("there is no reading for the event '%(event)s'"),
    _("it is for another account"),
    _("it is for another account: there is none with its open_id, or that has another app"),
    _("it is not JSON"),
    _("nested too deeply"),
    _("give a redirect_uri or a refresh_token"),
)
