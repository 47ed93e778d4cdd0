"""What an entry may hold: any text, long ones, files; and how it is cut into batches [S3]."""

from __future__ import annotations

from sync.types import MessageRecord
from tests.contract.suite.reading import (
    BYTE_LIMIT,
    Entry,
    author,
    entries,
    logged_in,
    read,
    thread_of,
)
from tests.contract.suite.stage import Ability, Stage, Subject, needs

UNICODE = "你好，مرحبا, ¡hola! 👩🏽‍🚀 \u202eabc\u202c e\u0301 \U0001f9d1\u200d\U0001f4bb"
MARKUP = "<b>bold</b> & \"quotes\" 'too' \\ %s {x} ]]> &amp; &lt; two\nlines\tand a tab"
MEGABYTE = 1024 * 1024


class Bodies(Subject):
    async def test_any_text_arrives_as_it_was_written(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, UNICODE)
        async with logged_in(stage) as connection:
            assert entries(await read(connection))[said].text == UNICODE

    async def test_markup_is_text(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, MARKUP)
        async with logged_in(stage) as connection:
            assert entries(await read(connection))[said].text == MARKUP

    async def test_megabyte_arrives_whole(self, stage: Stage) -> None:
        """Or what the platform takes, if that is less. It is for the store to refuse it."""
        talk = await stage.thread()
        text = "大" * (min(stage.largest, MEGABYTE) // 3)
        before = await stage.say(talk, "before")
        said = await stage.say(talk, text)
        after = await stage.say(talk, "after")
        async with logged_in(stage) as connection:
            found = entries(await read(connection))
        assert set(found) == {before, said, after}
        assert found[said].text == text

    async def test_batches_are_bounded_in_bytes(self, stage: Stage) -> None:
        """Only a record that alone is above the limit may pass it."""
        talk = await stage.thread()
        text = "x" * min(stage.largest - 100, 100_000)
        count = BYTE_LIMIT // len(text) + 5
        await stage.say_many(talk, [f"{n}{text}" for n in range(count)])
        async with logged_in(stage) as connection:
            batches = await read(connection)
        assert len(entries(batches)) == count
        for batch in batches:
            size = sum(len(one.text) for one in batch.records if isinstance(one, Entry))
            assert size <= BYTE_LIMIT or len(batch.records) == 1

    @needs(Ability.ATTACHMENTS)
    async def test_file_is_a_reference(self, stage: Stage) -> None:
        talk = await stage.thread()
        sent = await stage.send_file(talk)
        async with logged_in(stage) as connection:
            found = entries(await read(connection))[sent.entry]
        assert isinstance(found, MessageRecord)
        assert found.attachments == (sent.attachment,)
        assert sent.attachment.url

    @needs(Ability.TREES)
    async def test_answer_names_what_it_answers(self, stage: Stage) -> None:
        talk = await stage.thread()
        top = await stage.say(talk, "top")
        middle = await stage.answer(talk, top, "middle")
        leaf = await stage.answer(talk, middle, "leaf")
        async with logged_in(stage) as connection:
            found = entries(await read(connection))
        parents = {id: getattr(entry, "parent_id", None) for id, entry in found.items()}
        assert parents == {top: "", middle: top, leaf: middle}
        assert {thread_of(entry) for entry in found.values()} == {talk}
        assert all(author(entry) for entry in found.values())
