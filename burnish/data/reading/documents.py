"""Reader of plain text: files, paragraphs or lines as rows of one column, `text`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.data.reading.content import Content, open_content
from burnish.data.reading.spans import MARK, SpanRows, Spans, decoded, line_spans, no_rows
from burnish.data.row import Row
from burnish.data.settings import Documents


@dataclass(frozen=True, slots=True)
class TextParser:
    """Parser of one document."""

    path: str
    whole: bool
    """True: the text is unchanged. False: the line break at its end is removed."""

    def __call__(self, raw: bytes, line: int) -> Row:
        text = decoded(self.path, raw, line)
        return {"text": text if self.whole else text.rstrip("\r\n")}


def read_documents(path: str, documents: Documents) -> SpanRows:
    """Opens the documents of a text file as rows."""
    content = open_content(path)
    lines, fingerprint = line_spans(content, f"text {documents}")
    if len(lines) == 0:
        raise no_rows(path)
    spans = {"file": _file, "paragraph": _paragraphs, "line": _lines}[documents](content, lines)
    return SpanRows(path, content, spans, TextParser(path, documents == "file"), fingerprint, ("text",))


def _file(content: Content, lines: Spans) -> Spans:
    start = len(MARK) if content.read(0, min(content.size, len(MARK))) == MARK else 0
    return Spans(np.array([start]), np.array([content.size]), None)


def _paragraphs(content: Content, lines: Spans) -> Spans:
    """Locates runs of consecutive lines that are not blank."""
    if lines.lines is None:
        return Spans(lines.starts[:1], lines.stops[-1:], None)
    breaks = np.flatnonzero(np.diff(lines.lines) > 1)
    first, last = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(lines) - 1]])
    return Spans(lines.starts[first], lines.stops[last], lines.lines[first])


def _lines(content: Content, lines: Spans) -> Spans:
    return lines
