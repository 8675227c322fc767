"""Files and hub sets become groups: rows -> conversations -> text -> tokens and masks.

The first stage of the flow. `read_rows` gives rows that know their file and line, `formats` says what a row means,
`template` writes it as the text that serving would see, `tokenize` makes tokens and a mask of it, `Preparation` does
all of this for a whole set and keeps the result compactly, and a `Feed` gives groups of it from the first moment on.
"""

from burnish.data.control import ControlText
from burnish.data.feed import Feed
from burnish.data.formats import FORMATS, Completion, Conversation, Format, Message, recognise
from burnish.data.lengths import Overlong
from burnish.data.prepare import Preparation, Prepared
from burnish.data.read import read_rows
from burnish.data.rendering import TRAIN_ON, Rendering, complete, render
from burnish.data.report import DataReport, Dropped, Unusable
from burnish.data.rows import PickedRows, Row, Rows
from burnish.data.template import Template, choose_template
from burnish.data.tokenize import Sample, to_group, tokenize
from burnish.data.writer import Writer

__all__ = [
    "FORMATS",
    "TRAIN_ON",
    "Completion",
    "ControlText",
    "Conversation",
    "DataReport",
    "Dropped",
    "Feed",
    "Format",
    "Message",
    "Overlong",
    "PickedRows",
    "Preparation",
    "Prepared",
    "Rendering",
    "Row",
    "Rows",
    "Sample",
    "Template",
    "Unusable",
    "Writer",
    "choose_template",
    "complete",
    "read_rows",
    "recognise",
    "render",
    "to_group",
    "tokenize",
]
