"""An IMAP server that says what a test wants, for what Dovecot never says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

CAPABILITY = ("* CAPABILITY IMAP4rev1 LITERAL+",)
SAYS: Mapping[str, Sequence[str]] = {
    "CAPABILITY": CAPABILITY,
    "EXAMINE": ("* 0 EXISTS", "* OK [UIDVALIDITY 7] ok", "* OK [UIDNEXT 1] ok"),
}


class ImapScript:
    """Answers each command with the untagged lines of its verb ("UID STORE" has two words) and an
    OK, or with `refuses[verb]` in its place. `heard` are the commands without their tags."""

    def __init__(
        self, says: Mapping[str, Sequence[str]], refuses: Mapping[str, str] | None = None
    ) -> None:
        self.says, self.refuses = {**SAYS, **says}, refuses or {}
        self.heard: list[str] = []
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        try:
            while line := await reader.readline():
                tag, _, command = line.decode().strip().partition(" ")
                while command.endswith("}"):  # literals
                    writer.write(b"+ go on\r\n")
                    size = int(command.rpartition("{")[2].rstrip("}"))
                    command = command.rpartition(" {")[0]
                    command += " " + (await reader.readexactly(size)).decode()
                    command += (await reader.readline()).decode().rstrip("\r\n")
                self.heard.append(command)
                writer.write(self._answer(tag, command).encode())
                if command == "LOGOUT":
                    break
        finally:
            writer.close()

    def _answer(self, tag: str, command: str) -> str:
        words = command.split()
        verb = " ".join(words[: 2 if words[0] == "UID" else 1])
        said = self.says.get(verb, self.says["EXAMINE"] if verb == "SELECT" else ())
        end = self.refuses.get(verb, "OK done")
        return "".join(f"{line}\r\n" for line in (*said, f"{tag} {end}"))


@asynccontextmanager
async def imap_script(
    says: Mapping[str, Sequence[str]], refuses: Mapping[str, str] | None = None
) -> AsyncIterator[ImapScript]:
    script = ImapScript(says, refuses)
    server = await asyncio.start_server(script.talk, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
