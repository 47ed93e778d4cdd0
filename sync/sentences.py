"""What sync stores in English: errors and notices of accounts, gaps, audits, logins, replies,
dead letters, deliveries, and the histories of what people did with them [C6].

The accounts' workers write these, and the receiver of webhooks; `lifecycle.said` turns them into
the reader's language. What an adapter says of its own stands in its folder (`Platform.sentences`).
`tests/unit/test_said_of_sync.py` compares this with what is written.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext_noop as _

from sync.platforms import registry

CHECKS = (
    _("the platform did not answer in time"),
    _("no answer within %(time)s s"),
    _("the platform ended a new session at once"),
    _(
        "The platform no longer knows our cursor: reading on from the last messages and comments "
        "that we know."
    ),
    _("The platform no longer knows our cursor: reading all that it still has, anew."),
    _(
        "The platform no longer knows our cursor: reading on from the last messages and comments "
        "that we know. (%(cause)s)"
    ),
    _("The platform no longer knows our cursor: reading all that it still has, anew. (%(cause)s)"),
    _("This platform's login takes a person: ask for a login."),
    _("unexpected %(type)s; see the worker's log"),
    _("database: %(type)s"),
    _("there is no platform '%(platform)s'"),
    _("the counts of batch %(batch)s don't add up: %(receipt)s"),
)
AUDITS = (
    _("1 gap is open"),
    _("%(n)s gaps are open"),
    _("1 dead letter is open"),
    _("%(n)s dead letters are open"),
    _("%(cause)s, 1 dead letter is open"),
    _("%(cause)s, %(n)s dead letters are open"),
)
LOGINS = (
    _("Cancelled by %(who)s."),
    _("The login was given up."),
    _("Nobody finished the login in time."),
)
REPLIES = (
    _("this platform takes no replies"),
    _("this platform can't be asked what it has"),
)
HOOKS = (
    _("not a handshake"),
    _("its id, its number or its key is too long"),
    _("the body is not JSON"),
    _("it is too old to be sent now"),
    _("the signature is not that of the app's secret"),
    _("Deliveries %(first)s to %(last)s have not come; the platform keeps no copy."),
    _(
        "1 delivery was turned away while the account was disabled; the platform can't be asked "
        "for it."
    ),
    _(
        "%(n)s deliveries were turned away while the account was disabled; the platform can't be "
        "asked for them."
    ),
)
RECORDS = (
    _("unknown record kind '%(kind)s'"),
    _("%(field)s is empty"),
    _("%(field)s has %(n)s characters, at most %(most)s fit"),
    _("%(field)s has a character that can't be stored"),
    _("it has about %(size)s bytes, at most %(most)s are stored"),
    _("%(field)s has no time zone"),
    _("%(field)s is outside of the years 1 to 9999"),
    _(
        "another message with the id %(id)s is known, from %(who)s at %(time)s UTC. That one "
        "stays; this one says something else: read it here, and discard it"
    ),
    _("it can't be stored: %(type)s"),
    _("unexpected %(type)s; see the web's log"),
    _("this platform's raw records can't be read again by hand"),
    _("This must be an object."),
    _("There is no such field."),
)
# In the histories of dead letters and replies (`sync.trail`).
HISTORY = (
    _("Record seen."),
    _("Record seen over the API."),
    _("Repaired."),
    _("Replayed."),
    _("Discarded."),
    _("Accepted as lost."),
    _("Reopened."),
    _("%(what)s, with others."),
    _("replay"),
    _("discard"),
    _("reopen"),
    _("Taken back."),
    _("Taken back over the API."),
    _("Tried again."),
    _("Tried again over the API."),
    _("Sent again anyway."),
    _("Sent again anyway over the API."),
)
# Of several adapters, and of `sync.platforms.rest`.
ADAPTERS = (
    _("%(name)s: %(cause)s"),
    _("not logged in"),
    _("the credentials are not usable"),
    _("the credentials are not usable: %(cause)s"),
    _("these credentials are %(one)s's, not %(other)s's"),
    _("the cursor is not one of ours"),
    _("can't reach the platform: %(why)s"),
    _("no answer to %(what)s in time"),
    _("the connection broke: %(why)s"),
    _("the answer to %(what)s is larger than %(most)s bytes"),
    _("nonsense in answer to %(what)s"),
    _("nonsense in answer to %(what)s: %(cause)s"),
    _("the room can't be entered: %(cause)s"),
    _("the newest"),
)
# What pydantic says of a record that is not shaped as it should be (pydantic_core's messages).
SHAPES = (
    _("Field required"),
    _("Extra inputs are not permitted"),
    _("Input should be %(what)s"),
    _("a valid string"),
    _("a valid number"),
    _("a valid integer"),
    _("a valid boolean"),
    _("a valid list"),
    _("a valid tuple"),
    _("a valid dictionary"),
    _("a valid datetime"),
    _("Input should be a valid dictionary or instance of %(class)s"),
    _("Input should be a valid integer, unable to parse string as an integer"),
    _("Input should be a valid number, unable to parse string as a number"),
    _("Input should be a valid datetime, %(why)s"),
    _("Input should be greater than %(least)s"),
    _("Input should be greater than or equal to %(least)s"),
    _("Input should be less than %(most)s"),
    _("Input should be less than or equal to %(most)s"),
    _("String should have at least %(n)s character"),
    _("String should have at least %(n)s characters"),
    _("String should have at most %(n)s character"),
    _("String should have at most %(n)s characters"),
    _("String should match pattern '%(pattern)s'"),
    _("Value error, %(cause)s"),
)


def sentences() -> Iterator[str]:
    """All, those of the adapters included."""
    for some in (CHECKS, AUDITS, LOGINS, REPLIES, HOOKS, RECORDS, HISTORY, ADAPTERS, SHAPES):
        yield from some
    for platform in registry().values():
        yield from platform.sentences
