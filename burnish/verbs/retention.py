"""What the model of each stage can do in the built-in world: what was learned, and what was forgotten for it.

Over `evaluation`; `burnish quickstart` shows it. The questions are those of ``builtin:chat/test``, the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from burnish.builtin.manner import is_courteous
from burnish.builtin.sets import builtin_rows
from burnish.runs.durable import write_text
from burnish.runs.stage_folder import StageFolder
from burnish.tasks.match import MatchRule, matches
from burnish.verbs.evaluate import EvalSettings, evaluate

NAME = "kept.json"
"""In the run folder."""
QUESTIONS = 400
"""All of the set: half of them about facts, a quarter each of arithmetic and of form."""
_LONGEST = 60
"""Tokens of an answer."""
_RULES: dict[str, MatchRule] = {"fact": "contains", "arithmetic": "number", "format": "contains"}


@dataclass(frozen=True, slots=True)
class Retention:
    """Shares of the questions of a kind; the last one of those about facts."""

    stage: str
    facts: float
    arithmetic: float
    form: float
    courteous: float


def measure_retention(run: Path, stages: Sequence[str]) -> list[Retention]:
    """What the model of each stage of a finished run can do. Measured once; afterwards read from the run folder.

    Args:
        run: the run folder.
        stages: their names in order.
    """
    path = run / NAME
    if not path.exists():
        models = [*StageFolder.models_before(run, stages), run / "model"]
        found = [_measured(stage, model) for stage, model in zip(stages, models, strict=True)]
        write_text(path, json.dumps([asdict(each) for each in found]) + "\n")
    return [Retention(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def _measured(stage: str, model: Path) -> Retention:
    kinds = _kinds()
    asked = EvalSettings(data=f"builtin:chat/test#{QUESTIONS}", match="contains", max_new_tokens=_LONGEST)
    answers = evaluate(str(model), asked).accuracy
    assert answers is not None, "every row asks something"
    right: dict[str, list[bool]] = {kind: [] for kind in _RULES}
    courteous = []
    for sample in answers.samples:
        kind = kinds[sample.reference]
        right[kind].append(matches(sample.response, sample.reference, _RULES[kind]))
        if kind == "fact":
            courteous.append(is_courteous(sample.response))
    facts, arithmetic, form = (_share(right[kind]) for kind in ("fact", "arithmetic", "format"))
    return Retention(stage, facts, arithmetic, form, _share(courteous))


def _kinds() -> dict[str, str]:
    """The kind of a question by its answer."""
    found = {}
    for row in builtin_rows("chat", "test"):
        [_, answer] = cast(list[dict[str, str]], row["messages"])
        found[answer["content"]] = str(row["kind"])
    return found


def _share(found: Sequence[bool]) -> float:
    """0 of nothing."""
    return sum(found) / max(1, len(found))
