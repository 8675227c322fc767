"""Names of the files of a run folder: `runs`, `stages` and `watch` write them, the report and the model card read them.

See `runs.folder` for what they contain. A file that only its writer reads is named there.
"""

from __future__ import annotations

IDENTITY = "identity.json"
"""First file of a run; a folder with it is a run folder."""
RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
LOG = "log.txt"
DATA = "data.json"
ENVIRONMENT = "environment.json"
FINISHED = "finished.json"
"""Last file of a run or of a stage: all others are complete."""
CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints of a run or of a stage."""
STAGES = "stages"
"""Folder of the stages of a run with several."""
LOCK = ".lock"
"""File that the process of a run holds locked."""
MODEL = "model"
"""Folder of the model of a finished run or stage."""
