"""The table in docs/adapters.md says what the tests run, and its claims are true."""

from __future__ import annotations

import pytest
import torch

from burnish.errors import ModelError, RecipeError
from burnish.export.export import export
from burnish.export.write import write_model
from burnish.model.adapters.combine import Combination
from burnish.model.load import load_policy
from burnish.recipe.read import stage_recipe
from tests.adapters import write_base
from tests.model.adapters.cases import CASES
from tests.model.adapters.table import PAGE, page_with_table


def test_the_committed_page_has_the_current_table():
    """``python -m tests.model.adapters.table`` makes it anew."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page)


def options(title: str) -> dict[str, object]:
    """Adapter options of a case in a recipe."""
    pairs = (each.split(": ") for each in CASES[title].in_recipe.split(", "))
    return {name: {"true": True}.get(value, value) for name, value in pairs}


@pytest.mark.parametrize("title", CASES)
def test_the_recipe_makes_this_adapter(title):
    settings = stage_recipe("sft", {"model": "m", "data": "d", "adapter": options(title)}, ()).recipe.adapter.settings
    case = CASES[title].settings
    assert (settings.kind, settings.init, settings.dora, settings.rslora) == (
        case.kind,
        case.init,
        case.dora,
        case.rslora,
    )


@pytest.mark.parametrize("title", CASES)
@pytest.mark.parametrize("bits", [4, 8])
def test_which_train_on_a_quantized_base(tmp_path, title, bits):
    case = CASES[title]
    adapter = {**options(title), "kind": "qlora", "bits": bits}
    files = {"model": "m", "data": "d"}
    if case.settings.kind != "lora":
        return  # the kind itself says which base there is
    if case.on_quantised and not (bits == 8 and case.settings.dora):
        recipe = stage_recipe("sft", {**files, "adapter": adapter}, ()).recipe
        base = write_base(tmp_path / "base")
        policy = load_policy(str(base), adapter=recipe.adapter.settings, quantization=recipe.adapter.quantization)
        assert any("bitsandbytes" in type(layer).__module__ for layer in policy.model.modules())
        return
    with pytest.raises(RecipeError):
        stage_recipe("sft", {**files, "adapter": adapter}, ())


@pytest.mark.parametrize("title", CASES)
def test_which_can_be_combined(tmp_path, title):
    torch.manual_seed(0)
    policy = load_policy(str(write_base(tmp_path / "base")), adapter=CASES[title].settings)
    folder = tmp_path / "adapter"
    folder.mkdir()
    export(policy, folder, template=None, end_tokens=[])

    def combine() -> None:
        write_model(
            str(folder), tmp_path / "sum", form="adapter", others=[str(folder)], combination=Combination((0.5, 0.5))
        )

    if CASES[title].combines:
        return combine()
    with pytest.raises(ModelError, match="plain LoRA"):
        combine()
    return None
