"""Retention: accuracies of each stage's model on built-in questions, which show gains and forgetting.

`burnish quickstart` shows them. The questions are those of ``builtin:chat/test``, the same for all stages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from burnish.builtin.sets import builtin_rows
from burnish.builtin.style import is_polite
from burnish.rewards.match import MatchRule, matches
from burnish.run_files import MODEL
from burnish.runs.durable import write_text
from burnish.runs.stage_folder import StageFolder
from burnish.verbs.evaluate import EvalSettings, evaluate

NAME = "kept.json"
"""File in the run folder."""
QUESTIONS = 400
"""Number of questions, all of the dataset: half of them about facts, a quarter each of arithmetic and of form."""
_LONGEST = 60
"""Maximum number of tokens of a response."""
_RULES: dict[str, MatchRule] = {"fact": "contains", "arithmetic": "number", "format": "contains"}


@dataclass(frozen=True, slots=True)
class Retention:
    """Accuracies of a stage's model by kind of question; `polite` is the share of polite answers about facts."""

    stage: str
    facts: float
    arithmetic: float
    form: float
    polite: float


def measure_retention(run: Path, stages: Sequence[str]) -> list[Retention]:
    """Retention of each stage of a finished run. Measured once, then read from the run folder.

    Args:
        run: the run folder.
        stages: names of the stages in order.
    """
    path = run / NAME
    if not path.exists():
        models = [*StageFolder.finished_before(run, stages), run / MODEL]
        results = [_measured(stage, model) for stage, model in zip(stages, models, strict=True) if model is not None]
        write_text(path, json.dumps([asdict(result) for result in results]) + "\n")
    return [Retention(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _measured(stage: str, model: Path) -> Retention:
    kinds = _kinds()
    settings = EvalSettings(data=f"builtin:chat/test#{QUESTIONS}", match="contains", max_new_tokens=_LONGEST)
    answers = evaluate(str(model), settings).accuracy
    assert answers is not None, "every row has a prompt"
    right: dict[str, list[bool]] = {kind: [] for kind in _RULES}
    polite = []
    for sample in answers.samples:
        kind = kinds[sample.reference]
        right[kind].append(matches(sample.response, sample.reference, _RULES[kind]))
        if kind == "fact":
            polite.append(is_polite(sample.response))
    facts, arithmetic, form = (_share(right[kind]) for kind in ("fact", "arithmetic", "format"))
    return Retention(stage, facts, arithmetic, form, _share(polite))


def _kinds() -> dict[str, str]:
    """Reference answer → kind of its question."""
    kinds = {}
    for row in builtin_rows("chat", "test"):
        [_, answer] = cast(list[dict[str, str]], row["messages"])
        kinds[answer["content"]] = str(row["kind"])
    return kinds


def _share(values: Sequence[bool]) -> float:
    """Share of True; 0 of an empty sequence."""
    return sum(values) / max(1, len(values))
