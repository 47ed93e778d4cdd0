"""What an XMPP account needs to log in."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class XmppCredentials(BaseModel):
    """A bare address (`sales@example.org`) with its password."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    jid: str = Field(pattern=r"^[^@/\s]+@[^@/\s]+$", max_length=500)
    password: str = Field(min_length=1, max_length=512, repr=False)
