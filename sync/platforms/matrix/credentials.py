"""What a Matrix account needs to log in."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class MatrixCredentials(BaseModel):
    """A username (`sales` or `@sales:example.org`) with its password, or an access token."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str | None = Field(None, min_length=1, max_length=255)
    password: str | None = Field(None, min_length=1, max_length=512, repr=False)
    access_token: str | None = Field(None, min_length=1, max_length=4096, repr=False)

    @model_validator(mode="after")
    def _one_way_in(self) -> MatrixCredentials:
        if self.access_token:
            if self.password:
                raise PydanticCustomError(
                    "two_ways_in", "give a password or an access_token, not both"
                )
        elif not self.username or not self.password:
            raise PydanticCustomError(
                "no_way_in", "give a username and its password, or an access_token"
            )
        return self
