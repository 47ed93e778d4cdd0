"""Bytes of mails as text. Total: a wrong or unknown charset gives what can be read of it."""

from __future__ import annotations

import binascii
import quopri
import re

NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
# Names that mailers write and Python does not know, or knows as less than is meant (WHATWG).
MEANT = {
    "": "ascii",
    "us-ascii": "ascii",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-1": "cp1252",
    "iso-8859-8-i": "iso-8859-8",
    "unicode-1-1-utf-7": "utf-7",
    "x-unknown": "ascii",
    "unknown-8bit": "ascii",
    "default": "ascii",
    # No charsets of mails; Python takes a time for them that grows faster than the text.
    "punycode": "ascii",
    "idna": "ascii",
}


def decoded(data: bytes, charset: str) -> str:
    """By its charset; else as UTF-8; else as far as it goes."""
    name = charset.strip().strip("\"'").lower()
    name = MEANT.get(name, name)
    for candidate in (name, "utf-8"):
        try:
            return data.decode(candidate)
        except (UnicodeError, LookupError):
            continue
    try:
        return data.decode("cp1252" if name == "ascii" else name, "replace")
    except (UnicodeError, LookupError):
        return data.decode("cp1252", "replace")


def unwrapped(data: bytes, encoding: str) -> bytes:
    """What a Content-Transfer-Encoding wrapped (RFC 2045 6)."""
    match encoding.strip().lower():
        case "quoted-printable":
            return quopri.decodestring(data)
        case "base64":
            return unbase64(data)
        case _:
            return data


def unbase64(data: bytes) -> bytes:
    out = []
    for piece in re.split(rb"=+", data):  # a mailer that encodes piece by piece pads each of them
        digits = NOT_BASE64.sub(b"", piece)
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        out.append(binascii.a2b_base64(digits + b"=" * (-len(digits) % 4)))
    return b"".join(out)
