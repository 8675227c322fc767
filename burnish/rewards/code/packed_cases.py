"""Test cases as LiveCodeBench packs them: base64 of zlib of a pickle that holds one text.

The pickle is read as a list of opcodes and never loaded, since loading a pickle may run any code.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import zlib

MAX_BYTES = 1 << 28
"""Largest unpacked size, bytes."""
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_AROUND = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"})


def unpacked(packed: str) -> str | None:
    """The text; None: it is not packed in this way.

    Raises:
        ValueError: it is packed so, and holds something else than one text, or too much.
    """
    try:
        compressed = base64.b64decode(packed, validate=True)
        reader = zlib.decompressobj()
        content = reader.decompress(compressed, MAX_BYTES)
    except (binascii.Error, zlib.error, ValueError):
        return None
    if not reader.eof:
        raise ValueError(f"its packed tests are cut off, or larger than {MAX_BYTES >> 20} MiB")
    return _text_in(content)


def _text_in(content: bytes) -> str:
    """The only text of a pickle, or plain UTF-8."""
    if content[:1] != b"\x80":
        return content.decode()
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    texts = [str(argument) for name, argument in opcodes if name in _TEXTS]
    other = next((name for name, _ in opcodes if name not in _TEXTS | _AROUND), None)
    if other is not None or len(texts) != 1:
        raise ValueError(f"its packed tests are a pickle of {other or f'{len(texts)} texts'}, which is not loaded")
    return texts[0]
