"""What a row means: the columns of a set are recognised as a format, which turns rows into typed examples.

Stands between `read` (rows) and the renderings (text). A row that does not fit raises a DataError that tells what is
wrong in the row; the caller knows the file and line, and collects.
"""

from burnish.data.formats.comparison_error import ComparisonError
from burnish.data.formats.format import Dialect, Format, Stage
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognise import READY, check_mapping, check_name, recognise, recognise_scores
from burnish.data.records import (
    ROLES,
    AnyExample,
    Completion,
    Conversation,
    Document,
    Example,
    Labelled,
    Message,
    Ranked,
    Task,
)

__all__ = [
    "FORMATS",
    "READY",
    "ROLES",
    "AnyExample",
    "ComparisonError",
    "Completion",
    "Conversation",
    "Dialect",
    "Document",
    "Example",
    "Format",
    "Labelled",
    "Message",
    "Ranked",
    "Stage",
    "Task",
    "check_mapping",
    "check_name",
    "recognise",
    "recognise_scores",
]
