"""Groups with images give the log-probabilities and gradients of plain transformers, however they are packed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.template import Template
from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.types import Group, Score
from tests.vision.groups import group_of, plain_inputs, plain_logprobs, policy_of
from tests.vision.small import FAMILIES, SmallFamily, write_picture

EACH_FAMILY = pytest.mark.parametrize("small", FAMILIES, ids=lambda small: small.name)
ROWS = (
    ("<|user|>\nwhat is #?<|end|>\n<|assistant|>\n", ((1, 40, 24),), ("a cat", "a dog, I think", "no")),
    ("<|user|>\n# and # differ?", ((2, 24, 56), (3, 64, 64)), ("yes", "not at all")),
    ("<|user|>\nno image", (), ("a", "bc")),
    ("#first", ((1, 40, 24),), ("one",)),
)


def groups_of(policy: Model, folder: Path) -> list[Group]:
    return [group_of(policy, text, pictures, answers, folder) for text, pictures, answers in ROWS]


def scored(policy: Model, groups: list[Group], budget: int) -> Tensor:
    """[sum of R] log-probabilities in the order of groups and responses."""
    found: dict[tuple[int, int], Tensor] = {}
    for microbatch in policy.pack(groups, budget):
        values = policy.score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB)
        for number in range(microbatch.num_sequences):
            key = int(microbatch.sequence_group[number]), int(microbatch.sequence_index[number])
            found[key] = values[microbatch.sequence == number]
    return torch.cat([found[key] for key in sorted(found)])


def gradients(policy: Model, loss: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in policy.causal_lm.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


@EACH_FAMILY
@pytest.mark.parametrize("route", [Route.SHARED, Route.EXPANDED])
@pytest.mark.parametrize("budget", [10_000, 300, 1])
def test_log_probabilities_and_gradients_are_those_of_plain_transformers(
    small: SmallFamily, route: Route, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(small, tmp_path, route, monkeypatch)
    groups = groups_of(policy, tmp_path)
    longest = max(len(group.prompt) + len(r.tokens) for group in groups for r in group.responses)
    ours = scored(policy, groups, max(budget, longest))
    with plain_attention(policy.causal_lm):
        policy.causal_lm.eval()
        plain = torch.cat(
            [
                plain_logprobs(policy.causal_lm, policy, group, pictures)
                for group, (_, pictures, _) in zip(groups, ROWS, strict=True)
            ]
        )
        assert torch.allclose(ours, plain, rtol=0, atol=1e-10)
        weights = torch.linspace(-1, 2, len(plain), dtype=plain.dtype)
        wanted = gradients(policy, (plain * weights).sum())
    policy.causal_lm.train()
    found = gradients(policy, (ours * weights).sum())
    assert any("vis" in name and bool(gradient.abs().sum() > 1e-6) for name, gradient in found.items())
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-10 * max(1.0, float(gradient.abs().max())), name


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
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-10 * max(1.0, float(gradient.abs().max())), name
