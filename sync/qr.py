"""QR images of what a login shows."""

from __future__ import annotations

import base64
import io

import segno

SCALE = 6  # pixels for each module


def svg(text: str) -> bytes:
    """The text as an SVG image; empty for no text, or one that no QR code can hold (over 2,953
    bytes)."""
    if not text:
        return b""
    try:
        code = segno.make(text, error="m", micro=False)
    except segno.DataOverflowError:
        return b""
    out = io.BytesIO()
    code.save(out, kind="svg", scale=SCALE, border=4, dark="#000", light="#fff")
    return out.getvalue()


def data_uri(text: str) -> str:
    """The same for an `<img>`; "" where there is no image."""
    image = svg(text)
    return f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}" if image else ""
