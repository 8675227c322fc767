"""What a recipe may say of the weights that learn, and what is refused when it is read."""

from __future__ import annotations

import pytest

from burnish.errors import RecipeError
from burnish.recipe.read import stage_recipe
from burnish.stages.updating import learning_rate


def read(**adapter: object):
    return stage_recipe("sft", {"model": "m", "data": "d", "adapter": adapter}, ()).recipe


IMPOSSIBLE = {
    "rank of full": ({"rank": 4}, "adapter.rank has no effect with adapter.kind: full"),
    "freezing beside an adapter": ({"kind": "lora", "freeze": ["embed"]}, "set adapter.kind: full"),
    "LoRA+ of full": ({"loraplus_ratio": 16.0}, "set adapter.kind: lora or qlora"),
    "LoRA+ of another": ({"kind": "loha", "loraplus_ratio": 16.0}, "loraplus_ratio has no effect"),
    "bits of lora": ({"kind": "lora", "bits": 8}, "set adapter.kind: qlora"),
    "rank of IA3": ({"kind": "ia3", "rank": 4}, "rank has no effect with adapter.kind: ia3"),
    "DoRA of another": ({"kind": "vera", "dora": True}, "set adapter.kind: lora or qlora"),
    "PiSSA beside 4 bits": ({"kind": "qlora", "init": "pissa"}, "before they are quantized"),
    "OLoRA with DoRA": ({"kind": "lora", "init": "olora", "dora": True}, "choose one"),
    "PiSSA on experts": ({"kind": "lora", "init": "pissa", "target_experts": True}, "experts are many"),
    "DoRA on experts": ({"kind": "lora", "dora": True, "target_experts": True}, "does not work on experts"),
    "dropout on experts": ({"kind": "lora", "dropout": 0.1, "target_experts": True}, "dropout must be 0"),
    "experts beside 4 bits": ({"kind": "qlora", "target_experts": True}, "set adapter.kind: lora"),
    "DoRA beside 8 bits": ({"kind": "qlora", "dora": True, "bits": 8}, "set adapter.bits: 4"),
    "values of 8 bits": ({"kind": "qlora", "bits": 8, "quant_type": "fp4"}, "no effect with adapter.bits: 8"),
    "outliers of 4 bits": ({"kind": "qlora", "int8_threshold": 6.0}, "no effect with adapter.bits: 4"),
    "3 bits": ({"kind": "qlora", "bits": 3}, "4 or 8"),
    "no expression": ({"kind": "lora", "targets": "q_(proj"}, "not a regular expression"),
    "nothing to freeze by": ({"freeze": ["!("]}, "not a regular expression"),
    "another tool's DoRA": ({"kind": "lora", "use_dora": True}, "dora"),
    "another tool's 4 bits": ({"load_in_4bit": True}, "kind: qlora"),
    "prompt tuning": ({"kind": "prompt_tuning"}, "full"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_work_is_refused(case):
    adapter, words = IMPOSSIBLE[case]
    with pytest.raises(RecipeError) as caught:
        read(**adapter)
    assert words in str(caught.value)


def test_quantised_weights_are_not_computed_in_float64():
    with pytest.raises(RecipeError, match="float32 or bfloat16"):
        stage_recipe("sft", {"model": "m", "data": "d", "dtype": "float64", "adapter": {"kind": "qlora"}}, ())


def test_settings_reach_the_model():
    of_lora = {
        "rank": 4,
        "targets": "attention",
        "layers": [0, 2],
        "modules_to_save": ["norm"],
        "rank_pattern": {"q": 2},
    }
    recipe = read(kind="qlora", bits=4, dora=True, **of_lora)
    settings = recipe.adapter.settings
    assert (settings.kind, settings.rank, settings.targets, settings.layers) == ("lora", 4, "attention", (0, 2))
    assert (settings.modules_to_save, settings.dora, settings.rank_pattern) == (("norm",), True, {"q": 2})
    assert recipe.adapter.quantization.bits == 4
    assert read(kind="lora").adapter.quantization is None
    assert read(freeze=["embed"]).adapter.settings is None


def test_where_only_vectors_learn_they_learn_faster():
    recipes = {kind: read(kind=kind) for kind in ("full", "lora", "ia3")}
    rates = {kind: learning_rate(recipe, recipe.stages[0].settings) for kind, recipe in recipes.items()}
    assert rates == {"full": 2e-5, "lora": 2e-4, "ia3": 2e-3}
