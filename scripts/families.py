"""Writes the tables of docs/families.md, and that of docs/vision.md, from the models of the tests.

    python -m scripts.families

Every family is built tiny, the probe determines its route, and the route's results are compared with transformers' own
forward in float64, in one microbatch and in several. Takes about a minute on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.attention import install, uninstall
from burnish.model.head import read_head
from burnish.model.probe import probe
from burnish.model.route import Route
from burnish.watch.quiet import quiet_transformers
from tests.equality import SPLIT, WHOLE, by_policy, by_transformers, difference
from tests.families import FAMILIES, REFUSED, ROUTES, in_float64, route_of
from tests.vision.equality import BUDGETS
from tests.vision.equality import ROUTES as VISION_ROUTES
from tests.vision.equality import difference as vision_difference
from tests.vision.groups import group_of, policy_of
from tests.vision.small import FAMILIES as VISION_FAMILIES
from tests.vision.small import SmallFamily

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
VISION_PAGE = PAGE.with_name("vision.md")
ROUTE_WORDS = {Route.SHARED: "shared", Route.EXPANDED: "expanded", Route.UNPACKED: "one at a time"}
HEADS = {
    "families": "| family | class | features | route | log-probabilities | gradients |\n|---|---|---|---|---|---|\n",
    "refused": "| family | class | reason |\n|---|---|---|\n",
    "vision": (
        "| `model_type` | class | tokens of an image | see each other | positions | log-probabilities | gradients |\n"
        "|---|---|---|---|---|---|---|\n"
    ),
}


def _layers(model: PreTrainedModel) -> set[str]:
    settings = model.config.to_dict()
    return set(settings.get("layer_types") or settings.get("layers_block_type") or settings.get("block_types") or ())


def _experts(model: PreTrainedModel) -> bool:
    return any(type(part).__name__.endswith("Experts") for part in model.modules())


def _learned_positions(model: PreTrainedModel) -> bool:
    tables = [part for part in model.modules() if isinstance(part, nn.Embedding)]
    return any(len(table.weight) > model.config.vocab_size for table in tables)


def _has(name: str) -> Callable[[PreTrainedModel], bool]:
    return lambda model: bool(model.config.to_dict().get(name))


STATES = {"linear_attention", "mamba", "recurrent"}
STATE_SIZES = ("state_size", "mamba_d_state")

FEATURES: dict[str, Callable[[PreTrainedModel], bool]] = {
    "windows": lambda model: "sliding_attention" in _layers(model) or _has("sliding_window")(model),
    "chunks": lambda model: "chunked_attention" in _layers(model),
    "sinks": lambda model: any(name.endswith("sinks") for name, _ in model.named_parameters()),
    "capped scores": _has("attn_logit_softcapping"),
    "latent attention": _has("kv_lora_rank"),
    "experts": _experts,
    "learned positions": _learned_positions,
    "scaled logits": lambda model: read_head(model).scale != 1,
    "capped logits": lambda model: read_head(model).softcap is not None,
    "tied head": lambda model: read_head(model).weight is model.get_input_embeddings().weight,
    "convolutions": lambda model: "conv" in _layers(model),
    "states": lambda model: bool(STATES & _layers(model)) or any(_has(name)(model) for name in STATE_SIZES),
}
"""Feature in the table → whether a model has it."""


def features(model: PreTrainedModel) -> str:
    return ", ".join(word for word, holds in FEATURES.items() if holds(model))


def known(family: str) -> list[str]:
    """Cells of a family's row that do not depend on the machine."""
    model = FAMILIES[family]()
    return [family, type(model).__name__, features(model), ROUTE_WORDS[route_of(family)]]


def measured(family: str) -> list[str]:
    """Cells with the largest differences over all microbatches and routes of the family."""
    with pytest.MonkeyPatch.context() as patch:
        model = in_float64(family, patch)
        install(model)
        if route_of(family) is Route.UNPACKED:
            uninstall(model)
        plain = by_transformers(model)
        differences = [
            difference(by_policy(model, route, budget), plain)
            for route in ROUTES[route_of(family)]
            for budget in (WHOLE, SPLIT)
        ]
    return [f"{max(d.logprob for d in differences):.0e}", f"{max(d.gradient for d in differences):.0e}"]


def refused(family: str) -> list[str]:
    """Row of a family that no route computes exactly."""
    torch.manual_seed(0)
    model = REFUSED[family]()
    install(model)
    try:
        probe(model)
    except ModelError as error:
        return [family, type(model).__name__, error.given.partition("cannot be trained: ")[2]]
    raise AssertionError(f"{family} is refused by the probe")


def known_of_vision(small: SmallFamily) -> list[str]:
    """Cells of a vision-language family's row that do not depend on the machine."""
    with TemporaryDirectory() as folder:
        policy = policy_of(small, Path(folder))
        assert policy.vision is not None
        processing, family = policy.vision.processing, policy.vision.family
        mark = family.image_token(processing.config)
        counts = {
            policy.tokenizer.encode(processing.text_of(*size).text, add_special_tokens=False).count(mark)
            for size in ((32, 32), (32, 64), (64, 96))
        }
        group = group_of(policy, "#", ((1, 40, 24),), ("a",), Path(folder))
        [microbatch] = policy.pack([group], 1000)
        positions, _ = policy.vision.positions(policy.causal_lm, microbatch.layout, microbatch.media)
    return [
        f"`{small.name}`",
        type(policy.causal_lm).__name__,
        "always the same" if len(counts) == 1 else "by its size",
        "in both directions" if family.two_way else "as tokens of text",
        "three dimensions" if positions.dim() == 2 else "index",
    ]


def measured_of_vision(small: SmallFamily) -> list[str]:
    """Cells with the largest differences over all microbatches and routes of the family."""
    found = []
    for route, budget in product(VISION_ROUTES, BUDGETS):
        with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
            found.append(vision_difference(small, Path(folder), route, budget, patch))
    return [f"{max(each.logprob for each in found):.0e}", f"{max(each.gradient for each in found):.0e}"]


def replaced(page: str, name: str, rows: Iterator[list[str]]) -> str:
    """The page with these rows in the table of this name."""
    begin, end = f"<!-- {name}: python -m scripts.families -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    table = HEADS[name] + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return before + begin + table + end + after


def main() -> None:
    with quiet_transformers():
        page = replaced(PAGE.read_text(), "families", (known(family) + measured(family) for family in FAMILIES))
        PAGE.write_text(replaced(page, "refused", (refused(family) for family in REFUSED)))
        shown = (known_of_vision(small) + measured_of_vision(small) for small in VISION_FAMILIES)
        VISION_PAGE.write_text(replaced(VISION_PAGE.read_text(), "vision", shown))


if __name__ == "__main__":
    main()
