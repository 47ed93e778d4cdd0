"""The demo's long message: in parts that Matrix takes, and nothing of it lost."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from crm.demo.people import PART_BYTES, STORY_BYTES, parts_of
from crm.demo.script import DESKS, LINES, PEOPLE, long_story


@given(st.text(), st.integers(8, 64))
def test_parts_are_whole_and_small(text: str, limit: int) -> None:
    parts = list(parts_of(text, limit))
    assert "".join(parts) == text
    for part in parts:
        assert part
        assert (
            len(json.dumps(part, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2 <= limit
        )


def test_long_story_is_over_a_megabyte() -> None:
    story = long_story(STORY_BYTES)
    assert len(story.encode()) > 1024 * 1024
    assert len(list(parts_of(story, PART_BYTES))) >= 18


def test_everybody_has_somebody_to_talk_to_and_something_to_say() -> None:
    desks = {desk.username for desk in DESKS}
    assert {desk for person in PEOPLE for desk in person.talks_to} == desks
    assert all(LINES[person.language] and person.greeting for person in PEOPLE)
