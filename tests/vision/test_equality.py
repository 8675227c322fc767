"""Groups with images give the log-probabilities and gradients of plain transformers, however they are packed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.template import Template
from burnish.model.attention import plain_attention
from burnish.model.route import Route
from burnish.types import Score
from tests.vision.equality import BUDGETS, ROUTES, difference, furthest, gradients
from tests.vision.groups import plain_inputs, policy_of
from tests.vision.small import FAMILIES, SmallFamily, write_picture

EACH_FAMILY = pytest.mark.parametrize("small", FAMILIES, ids=lambda small: small.name)


@EACH_FAMILY
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_log_probabilities_and_gradients_are_those_of_plain_transformers(
    small: SmallFamily, route: Route, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = difference(small, tmp_path, route, budget, monkeypatch)
    assert found.logprob <= 1e-10
    assert found.gradient <= 1e-10, found.worst
    assert found.into_tower > 1e-6


@EACH_FAMILY
def test_turns_before_a_later_image_are_learned_as_in_plain_transformers(
    small: SmallFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are trained tokens of the prompt, which ends with the last image; weights of turns stay."""
    policy = policy_of(small, tmp_path, patch=monkeypatch)
    assert policy.vision is not None
    pictures = ((1, 40, 24), (2, 24, 56))
    names = [write_picture(tmp_path, *one).name for one in pictures]
    row = {
        "messages": [
            {"role": "user", "content": "<image>one?"},
            {"role": "assistant", "content": "yes", "weight": 0.5},
            {"role": "user", "content": "and <image>?"},
            {"role": "assistant", "content": "no"},
        ],
        "images": names,
    }
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    template, images = Template(small.template), policy.vision.processing.within([str(tmp_path)])
    spec = DatasetSpec.of(read_rows(str(path)), policy.tokenizer, template, max_length=1000, images=images)
    [group] = spec.row(0)
    assert len(group.media) == 2
    assert group.prompt_weights is not None
    assert set(group.prompt_weights.tolist()) == {0.0, 0.5}
    [microbatch] = policy.pack([group], 1000)
    learned = policy.tokenizer.decode(microbatch.targets)
    assert learned == "yes<|end|>no<|end|>"
    ours = policy.score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB)
    sequence = torch.cat([group.prompt, group.responses[0].tokens])
    trained = torch.cat([group.prompt_weights > 0, group.responses[0].trainable])
    with plain_attention(policy.causal_lm):
        policy.causal_lm.eval()
        logits = policy.causal_lm(**plain_inputs(policy, sequence, pictures), use_cache=False).logits[0]
    plain = torch.log_softmax(logits[:-1], dim=-1).gather(1, sequence[1:, None])[:, 0][trained[1:]]
    assert torch.allclose(ours, plain, rtol=0, atol=1e-10)
    wanted = gradients(policy, (plain * microbatch.weights).sum())
    found = gradients(policy, (ours * microbatch.weights).sum())
    apart, name = furthest(found, wanted)
    assert apart <= 1e-10, name
