"""What the Matrix adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("can't reach the homeserver: %(why)s"),
    _("HTTP %(status)s from the homeserver"),
    _("%(cause)s: is this the address of a Matrix homeserver?"),
    _("this is not a cursor of the Matrix adapter: %(cause)s"),
    _("the homeserver left these messages out of its answer"),
    _("the homeserver forgot how far we had read: all since the last known message"),
    _("the room's history before we came"),
    _("a stretch of history can't be read: %(cause)s"),
    _("it changes %(event)s, which can't be read: %(cause)s"),
    _("it changes %(event)s: an audit fetches that as it is now"),
    _("this is no event of a room"),
    _("this is no message"),
    _("give a password or an access_token, not both"),
    _("give a username and its password, or an access_token"),
)
