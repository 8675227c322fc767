"""docs/glossary.md: each term, metric and alert once and in order, metrics and alerts as the code writes them, and no
retired word in what users read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

import burnish
from burnish.cli.main import app
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.recipe.json_schema import json_schema
from burnish.watch.alerts import rl_rules, training_rules
from burnish.watch.run_counters import COUNTERS
from scripts.compare.cases import CASES
from scripts.compare.rows import write_rows

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
STAGES = ("sft", "prefer", "reward", "rl", "ppo", "distill")

PLACEHOLDERS = {
    "LOSS": rf"(?:{'|'.join(PREFERENCE_LOSSES)})(?:_[a-z]+)?",
    "LENGTHS": r"(?:shorter_by_50|shorter|equal|longer|longer_by_50)",
    "METRIC": r"\w+",
    "LABEL": r"[a-z_]+",
    "NAME": r"\w+",
    "TAG": r"\w+",
}
"""What the glossary writes in capitals, as patterns."""


def section(title: str, level: int = 2) -> str:
    """The text under a heading, up to the next one of its level or above."""
    _, heading, rest = TEXT.partition(f"\n{'#' * level} {title}\n")
    assert heading, f"the glossary has a section {title}"
    return re.split(rf"\n#{{2,{level}}} ", rest)[0]


def cells(text: str) -> list[list[str]]:
    """Cells of the rows of all tables of a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rules = [index for index, line in enumerate(lines) if line.startswith("| ---")]
    rows = [line for index, line in enumerate(lines) if index not in rules and index + 1 not in rules]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


@dataclass(frozen=True, slots=True)
class Metric:
    """One name in the first column of a metrics table."""

    name: str
    stages: frozenset[str]
    has_interval: bool

    def matches(self, written: str) -> bool:
        """Whether a name of metrics.jsonl is this metric, or an end of its interval."""
        parts = re.split(rf"({'|'.join(PLACEHOLDERS)})", self.name)
        pattern = "".join(PLACEHOLDERS.get(part) or re.escape(part) for part in parts)
        return re.fullmatch(pattern + ("(?:_low|_high)?" if self.has_interval else ""), written) is not None


def metrics() -> list[Metric]:
    found = []
    for names, _unit, stages, _definition in cells(section("Metrics")):
        covered = frozenset(STAGES if stages == "all" else re.findall(r"`(\w+)`", stages))
        found += [Metric(name, covered, bool(mark)) for name, mark in re.findall(r"`([\w/]+)`( ±)?", names)]
    return found


def bare(name: str) -> str:
    return name.removeprefix("train/").removeprefix("eval/").removeprefix("rollout/").casefold()


def test_every_term_once_in_alphabetical_order_with_one_sentence() -> None:
    rows = cells(section("Terms"))
    terms = [row[0].casefold() for row in rows]
    assert len(terms) > 50
    assert terms == sorted(set(terms))
    assert all(len(row) == 2 and row[1].endswith(".") and row[1].count(". ") == 0 for row in rows)


def test_every_metric_once_with_stage_and_definition_in_alphabetical_order() -> None:
    names = [metric.name for metric in metrics()]
    assert len(names) > 50
    assert len(names) == len(set(names))
    assert all(len(row) == 4 and row[3].endswith((".", ")")) for row in cells(section("Metrics")))
    assert all(metric.stages and metric.stages <= set(STAGES) for metric in metrics())
    titles = re.findall(r"^### (.+)$", section("Metrics"), flags=re.MULTILINE)
    assert titles
    for title in titles:
        order = [bare(re.findall(r"`([\w/]+)`", row[0])[0]) for row in cells(section(title, level=3))]
        assert order
        assert order == sorted(order)


def test_every_counter_of_a_step_is_in_the_glossary() -> None:
    assert set(COUNTERS) <= {metric.name for metric in metrics()}


def test_every_alert_once_as_the_code_names_it() -> None:
    names = [row[0].strip("`") for row in cells(section("Alerts"))]
    assert names == sorted(rule.name for rule in (*training_rules(), *rl_rules()))


NEVER = {"name": "regex", "pattern": "no response has this text"}
TRAININGS: dict[str, dict[str, Any]] = {
    "tags": {"stage": "dpo", "eval_data": "pairs.jsonl#12"},
    "sum-of-terms": {"stage": "orpo", "loss": {"orpo": 1.0, "sft": 0.2}},
    "entropy-target": {"stage": "grpo", "policy_gradient": {"entropy_coef": 0.01, "entropy_target": 1.0}},
    "ppo-terms": {
        "stage": "ppo",
        "policy_gradient": {"old_logprobs": "recomputed", "importance_correction": "tis", "success_nll_coef": 0.1},
        "critic": {"value_clip": 0.2, "value_warmup_steps": 4},
        "ptx": {"data": "builtin:chat#12", "sequences_per_step": 4},
        "success_threshold": 0.0,
    },
    "ppo-entropy": {"stage": "ppo", "policy_gradient": {"entropy_coef": 0.01, "entropy_target": 1.0}},
    "distill-terms": {
        "stage": "distill",
        "reward_coef": 0.5,
        "on_policy_fraction": 0.5,
    },
    "distill-correction": {
        "stage": "distill-gradient",
        "policy_gradient": {"old_logprobs": "recomputed", "importance_correction": "tis", "entropy_coef": 0.01},
    },
    "distill-entropy": {
        "stage": "distill-gradient",
        "policy_gradient": {"entropy_coef": 0.01, "entropy_target": 1.0},
    },
    "rl-code": {
        "stage": "grpo",
        "data": "builtin:code#16",
        "eval_data": "builtin:code/test#8",
        "reward": {"name": "code", "isolation": "process"},
        "max_resamples": 1,
        "max_new_tokens": 16,
    },
    "no-signal": {"stage": "grpo", "reward": NEVER, "max_resamples": 1},
}
"""Name → a case of the comparison tool, and the settings in which it differs."""
WRITTEN_BY = [
    *("sft", "sft-terms", "kto", "orpo", "ranking", "sum", "reward-pairs", "reward-scores", "reward-steps"),
    *("rl-replay", "online-dpo", "rl-kl", "rl-correction", "rl-gdpo", "ppo"),
    *("distill", "distill-gradient", "distill-table"),
    *TRAININGS,
]
"""Short trainings that write every metric between them."""


def recipe(name: str) -> dict[str, Any]:
    settings = dict(TRAININGS.get(name, {"stage": name}))
    plain = CASES[settings.pop("stage")].recipe
    *before, last = plain["stages"]
    ((kind, usual),) = last.items()
    return {**plain, "stages": [*before, {kind: usual | settings}]}


def written(name: str, folder: Path) -> set[tuple[str, str]]:
    """(Stage, metric) of every line that a training writes."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe(name)), encoding="utf-8")
    run = burnish.run(path, f"output={folder / name}")
    lines = map(json.loads, (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {(line["stage"], key) for line in lines if "alert" not in line for key in line} - {
        (stage, key) for stage in STAGES for key in ("stage", "step")
    }


@pytest.mark.slow
def test_trainings_write_the_metrics_of_the_glossary_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path)
    emitted = {line for name in WRITTEN_BY for line in written(name, tmp_path)}
    known = metrics()
    for stage, name in sorted(emitted):
        rows = [metric for metric in known if metric.matches(name)]
        assert len(rows) == 1, f"{name} of {stage} has {len(rows)} rows"
        assert stage in rows[0].stages, f"{name} is written by {stage}"
    unwritten = [metric.name for metric in known if not any(metric.matches(name) for _, name in emitted)]
    assert not unwritten, f"no training writes {unwritten}"
    ends = {name for _, name in emitted if name.endswith("_low")}
    without = [metric.name for metric in known if metric.has_interval and not any(map(metric.matches, ends))]
    assert not without, f"no interval is written of {without}"


RETIRED = {
    r"by\s+trying": "reinforcement learning",
    r"(?<!in )practi[cs]\w*": "reinforcement learning, prompts of a stage rl",
    r"lessons?": "training item",
    r"exams?|examin\w+": "evaluation, evaluator",
    r"gates?": "preference filter",
    r"shel(?:f|ves)": "prefix cache",
    r"courte\w+": "polite",
    r"rehears\w+": "dry run",
    r"feeds?(?!-forward)": "streaming data set",
    r"manners?": "style",
    r"judg\w+": "grade, grader, reward model, reward function",
}
"""Pattern of a whole word → the term that the glossary has for it."""
ALLOWED = ("soft gate", "smooth gate", "LLM judge", "practitioner")
PAGES = sorted(
    [
        ROOT / "README.md",
        *(path for path in (ROOT / "docs").rglob("*.md") if path.name not in ("devlog.md", "benchmarks.md")),
        *(ROOT / "recipes").glob("*.yaml"),
        ROOT / "burnish" / "builtin" / "quickstart.yaml",
    ]
)


def retired_words(text: str) -> list[str]:
    """Retired words of a text, with the terms for them; code is no prose."""
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    for phrase in ALLOWED:
        prose = re.sub(rf"{phrase}", " ", prose)
    return [
        f"{match.group()} ({term})"
        for pattern, term in RETIRED.items()
        for match in re.finditer(rf"\b(?:{pattern})\b", prose, flags=re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Learning by\ntrying", 1),
        ("The exam's gate", 2),
        ("an example, `judge`, [x](judge.md), a soft gate", 0),
        ("```\nlesson\n```\nIn practice a feed-forward layer", 0),
    ],
)
def test_retired_words_are_found_in_prose_alone(text: str, count: int) -> None:
    assert len(retired_words(text)) == count


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_recipes_have_no_retired_words(page: Path) -> None:
    assert retired_words(page.read_text(encoding="utf-8")) == []


def help_texts(command: click.Command, path: str = "burnish") -> Iterator[tuple[str, str]]:
    """(Command, text) of a command, its options, and the commands below it."""
    yield path, command.help or ""
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, below in getattr(command, "commands", {}).items():
        yield from help_texts(below, f"{path} {name}")


def descriptions(schema: object) -> Iterator[tuple[str, str]]:
    """(Title, description) of every key of the schema of recipes."""
    if isinstance(schema, dict):
        if isinstance(schema.get("description"), str):
            yield str(schema.get("title", "")), schema["description"]
        for value in schema.values():
            yield from descriptions(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from descriptions(value)


def test_help_texts_have_no_retired_words() -> None:
    texts = [*help_texts(typer.main.get_command(app)), *descriptions(json_schema())]
    assert len(texts) > 200
    assert {where: words for where, text in texts if (words := retired_words(text))} == {}
