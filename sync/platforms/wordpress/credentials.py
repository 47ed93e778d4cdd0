"""What a WordPress account needs to log in."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WordPressCredentials(BaseModel):
    """A user who may moderate comments (an editor), with an application password: *Users*,
    *Profile*, *Application Passwords* in WordPress. The user's own password does not do."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str = Field(min_length=1, max_length=255)
    application_password: str = Field(min_length=1, max_length=255, repr=False)
