"""Files and hub sets become groups: rows -> conversations -> text -> tokens and masks.

The first stage of the flow. `read_rows` gives rows that know their file and line, `formats` says what a row means,
`template` writes it as the text that serving would see, `tokenize` makes tokens and a mask of it, and `prepare` does
all of this for a whole set and keeps the result compactly.
"""

from burnish.data.formats import FORMATS, Completion, Conversation, Format, Message, recognise
from burnish.data.prepare import Overlong, Prepared, prepare
from burnish.data.read import read_rows
from burnish.data.report import DataReport, Dropped
from burnish.data.rows import PickedRows, Row, Rows
from burnish.data.template import Rendering, choose_template, complete, render
from burnish.data.tokenize import Sample, to_group, tokenize

__all__ = [
    "FORMATS",
    "Completion",
    "Conversation",
    "DataReport",
    "Dropped",
    "Format",
    "Message",
    "Overlong",
    "PickedRows",
    "Prepared",
    "Rendering",
    "Row",
    "Rows",
    "Sample",
    "choose_template",
    "complete",
    "prepare",
    "read_rows",
    "recognise",
    "render",
    "to_group",
    "tokenize",
]
