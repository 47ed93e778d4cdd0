"""XMPP (RFC 6120, 6121) with a message archive (XEP-0313), over slixmpp."""

from sync.platforms.xmpp.adapter import Xmpp

platform = Xmpp()
