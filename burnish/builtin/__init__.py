"""What the package brings along, so that everything runs without a download: a little world and a model that knows it.

``builtin:tiny`` is accepted wherever a model is named (`model_folder`); ``builtin:chat``, ``builtin:chat/test`` and so
on wherever data is (`builtin_rows`). docs/builtin.md has rows, figures, and how the model was made.
"""

from burnish.builtin.arithmetic import last_number
from burnish.builtin.manner import is_courteous
from burnish.builtin.places import MODELS, PREFIX, model_folder, tiny_folder
from burnish.builtin.safety import is_refusal
from burnish.builtin.sets import SETS, SPLITS, Row, builtin_rows, generate, write_rows
from burnish.builtin.tiny import write_untrained

__all__ = [
    "MODELS",
    "PREFIX",
    "SETS",
    "SPLITS",
    "Row",
    "builtin_rows",
    "generate",
    "is_courteous",
    "is_refusal",
    "last_number",
    "model_folder",
    "tiny_folder",
    "write_rows",
    "write_untrained",
]
