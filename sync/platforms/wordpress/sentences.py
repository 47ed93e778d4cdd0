"""What the WordPress adapter says in rows, in English; see `sync.sentences`."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("can't reach the site: %(why)s"),
    _("HTTP %(status)s from the site"),
    _(
        "HTTP %(status)s without the JSON that was expected: is this the address of a WordPress "
        "site with its REST API switched on?"
    ),
    _("this is not how WordPress describes a user: %(cause)s"),
    _("%(user)s may not moderate comments: an editor may"),
    _("this is no cursor of the WordPress adapter: %(cause)s"),
    _("these %(what)s are still to be read"),
    _("this is no object of WordPress"),
)
