"""What the XMPP adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("no stream to %(host)s in time"),
    _("can't reach the server: %(why)s"),
    _("the stream was closed"),
    _("the stream was closed: %(cause)s"),
    _("we closed it"),
    _("the connection broke"),
    _("no answer in time"),
    _("no answer"),
    _("the server asks to slow down: %(why)s"),
    _("the server can't answer: %(why)s"),
    _("the server says %(why)s"),
    _("the server refuses: %(why)s"),
    _("the server refuses the message: %(why)s"),
    _("the server refuses the password: %(why)s"),
    _("the server can't check the password now"),
    _("the server offers no encryption, and no password is sent without it"),
    _("the server knows no way to log in that we know"),
    _("the address is none of xmpp://host:port or xmpps://host:port"),
    _("the server's answer to an archive query has no end"),
    _("the archive does not know the id any more"),
    _("the archive has no such message"),
    _("the archive has more than one page of these"),
    _("the server forgot how far we had read: all since the last known message"),
    _("this is not a cursor of the XMPP adapter: %(cause)s"),
    _("this cursor of the XMPP adapter names no archive"),
    _("this is no archived stanza: %(cause)s"),
    _("there is no message with a time in it"),
    _("the message is to nobody"),
    _("it says nothing to people"),
    _("'%(stamp)s' is no time"),
    _("what was sent to %(who)s could not be delivered: %(why)s"),
)
