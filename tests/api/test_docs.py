"""docs/python.md: its programs run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
LOOPS = [block for block in BLOCKS if "burnish.components" in block]
USES = [block for block in BLOCKS if block not in LOOPS and "Qwen" not in block]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def test_the_loops_of_ones_own_learn():
    names: dict[str, object] = {}
    for block in LOOPS:
        exec(block, names)
    losses, rewards = names["losses"], names["rewards"]
    assert losses[-1] < 0.5 * losses[0]
    assert len(rewards) == 3
    assert all(0 <= reward <= 1 for reward in rewards)


def test_a_loop_has_about_twenty_lines():
    lengths = [sum(bool(line.strip()) for line in block.splitlines()) for block in LOOPS]
    assert len(lengths) == 2
    assert all(length <= 20 for length in lengths), lengths


@pytest.mark.slow
def test_the_other_programs_run():
    names: dict[str, object] = {}
    exec("import burnish", names)
    for block in USES:
        exec(block, names)
    assert len(USES) >= 3


def test_a_function_is_a_loss_of_the_trainer():
    from burnish.components import Denominator, LossOutput, LossTerm, loss_of

    def half(scores, microbatch):
        return LossOutput({"half": LossTerm(-0.5 * (microbatch.weights * scores.logprob).sum(), Denominator.WEIGHT)})

    names: dict[str, object] = {}
    exec(LOOPS[0], names)
    step = names["trainer"].step
    whole = float(step(names["groups"], names["CrossEntropy"](), budget=1024, factor=0.0)["loss"])
    assert float(step(names["groups"], loss_of(half), budget=1024, factor=0.0)["loss"]) == pytest.approx(whole / 2)
