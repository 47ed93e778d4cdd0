"""What WordPress sends, as far as it is read (WordPress 5.7 and later)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _in_utc(value: datetime) -> datetime:
    """Times that are called GMT come without a zone."""
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


Gmt = Annotated[datetime, AfterValidator(_in_utc)]


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class User(Wire):
    id: int
    name: str = ""
    capabilities: dict[str, bool] = Field(default_factory=dict)


class Text(Wire):
    """`raw` is what was typed; only those who may edit it get to see it."""

    rendered: str = ""
    raw: str | None = None


class Comment(Wire):
    id: int
    post: int
    parent: int = 0
    author: int = 0  # 0: a guest
    author_name: str = ""
    author_email: str = ""
    author_user_agent: str = ""
    content: Text
    date_gmt: Gmt
    status: str = "approved"


class Post(Wire):
    id: int
    author: int = 0
    title: Text = Text()
    content: Text = Text()
    link: str = ""
    date_gmt: Gmt
    modified_gmt: Gmt
