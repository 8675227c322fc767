"""Every family: packed and shared log-probabilities and gradients equal plain transformers', in float64."""

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    PreTrainedModel,
)

from burnish.errors import ModelError
from burnish.model.attention import NAME, install, plain_attention
from burnish.model.policy import Policy
from burnish.model.probe import probe
from burnish.types import Group, Score, Segment
from tests.conftest import FAMILIES, SIZES, make_groups

SHAPES = [(9, [3, 12, 1]), (1, [8]), (15, [2, 2])]


def plain_logprobs(model: PreTrainedModel, groups: list[Group]) -> Tensor:
    """One unpadded forward of the untouched model per response."""
    collected = []
    with plain_attention(model):
        for group in groups:
            for response in group.responses:
                logits = model(input_ids=torch.cat([group.prompt, response.tokens])[None], use_cache=False).logits[0]
                logprobs = logits[len(group.prompt) - 1 : -1].log_softmax(-1)
                collected.append(logprobs.gather(1, response.tokens[:, None])[response.trainable, 0])
    return torch.cat(collected)


def gradients(model: PreTrainedModel, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [True, False])
def test_packed_equals_plain(float64_model, family, share):
    model = float64_model(family)
    install(model)
    groups = make_groups(SHAPES, holes=True)
    policy = Policy(model, tokenizer=None, share=share)
    [microbatch] = policy.pack(groups, 200)
    packed = policy.score(microbatch, [Score.LOGPROB]).logprob
    plain = plain_logprobs(model, groups)
    assert torch.allclose(packed, plain, rtol=0, atol=1e-12)

    direction = torch.randn(len(plain), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mine, theirs = gradients(model, packed @ direction), gradients(model, plain @ direction)
    assert mine.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-9, atol=1e-11), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_probe_shares_every_family(family):
    torch.manual_seed(0)
    model = FAMILIES[family]()
    install(model)
    assert probe(model)


def test_the_probe_refuses_sequences_that_see_each_other(monkeypatch):
    """An architecture whose attention ignores the layout is found out."""
    torch.manual_seed(0)
    model = FAMILIES["llama"]()
    install(model)

    def ignoring(module, query, key, value, mask, *, scaling=None, **_):
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, NAME + "sdpa", ignoring)
    with pytest.raises(ModelError, match=r"differ by .* nats"):
        probe(model)


def test_the_probe_expands_what_cannot_be_shared(monkeypatch):
    """Attention that is right for plain packed rows, but blind to contexts, runs on expanded groups."""
    from burnish.model import segments

    torch.manual_seed(0)
    model = FAMILIES["llama"]()
    install(model)
    true_attend = segments._attend

    def blind(query, key, value, segment, extras):
        if segment.context_length:
            key, value = key[:, :, segment.context_length :], value[:, :, segment.context_length :]
            segment = Segment(segment.start, segment.length)
        return true_attend(query, key, value, segment, extras)

    monkeypatch.setattr(segments, "_attend", blind)
    assert not probe(model)


@pytest.mark.parametrize("family", ["attention sinks", "soft-caps"])
def test_attention_that_packing_does_not_compute_is_refused(family):
    """Sinks (gpt-oss) and soft-caps (Gemma 2) would be dropped without a word."""
    sizes = {**SIZES, "head_dim": 8}
    torch.manual_seed(0)
    if family == "attention sinks":
        model = GptOssForCausalLM(GptOssConfig(**sizes, num_local_experts=2, num_experts_per_tok=1))
    else:
        model = Gemma2ForCausalLM(Gemma2Config(**sizes, query_pre_attn_scalar=8, attn_logit_softcapping=5.0))
    install(model)
    with pytest.raises(ModelError, match=r"s_aux|softcap"):
        probe(model)
