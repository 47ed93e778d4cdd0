"""What the e-mail adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("can't reach the mail server: %(why)s"),
    _("the mail server does not want us now"),
    _("lost the mail server: %(cause)s"),
    _("lost the mail server in mid-reading"),
    _("the mail server offers no encryption, and no password is sent without it"),
    _("it spoke before the encryption began"),
    _("the mail server sends more than was asked for"),
    _("an answer out of turn"),
    _("the mail server ends the connection: %(why)s"),
    _("the mail server refuses %(what)s: %(cause)s"),
    _("the login"),
    _("it is not among its capabilities"),
    _("the mail server does not open the INBOX: %(cause)s"),
    _("the mail server does not number the mails of %(folder)s (UIDVALIDITY, UIDNEXT)"),
    _("the mails of %(folder)s were numbered anew (UIDVALIDITY changed)"),
    _("the folder %(folder)s is not what it was"),
    _("this is not a cursor of the e-mail adapter: %(cause)s"),
    _("can't reach the SMTP server: %(why)s"),
    _("the SMTP server can't log us in now: %(why)s"),
    _("the SMTP server refuses the login: %(why)s"),
    _("the SMTP server says %(why)s"),
    _("the account's credentials name no SMTP server"),
    _("no mail of this conversation can be answered any more"),
    _("these mails are still to be read"),
    _("the mail can't be read: %(cause)s"),
    _("mail %(uid)s of %(folder)s can't be read: %(cause)s"),
    _("the server's answer makes no sense: %(cause)s"),
    _("the server tells nothing of what this mail is made of"),
    _("what the server tells of this mail makes no sense: %(cause)s"),
    _("no list of fields"),
    _("its text has %(size)s bytes, at most %(most)s are fetched"),
    _("not the address of a mail server: %(address)s"),
    _("give the e-mail address as identifier, or as credentials.address"),
    _("enter an e-mail address"),
    _("enter an address such as smtps://smtp.example.org"),
)
