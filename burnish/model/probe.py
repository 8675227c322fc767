"""The probe at load: does this model compute packed groups as it computes plain sequences?

Stands at the end of loading. Two groups of random tokens, longer than any sliding window, go through the packed forward
and, one response at a time, through the untouched model. The answer decides whether prompts are shared.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.attention import LayoutLostError, plain_attention
from burnish.model.policy import Policy
from burnish.packing import pack
from burnish.types import Group, Response, Score

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest mean difference of log-probabilities, nats. Sequences that see each other differ by 0.1 to 3 (measured)."""


@torch.no_grad()
def probe(model: PreTrainedModel) -> bool:
    """Tries the packed forward of a model in which packed attention is installed. The model's mode is kept.

    Returns:
        True: prompts can be shared. False: they have to be computed once per response.

    Raises:
        ModelError: packed sequences are not computed as plain ones.
    """
    was_training = model.training
    model.eval()
    try:
        groups = _groups(model)
        expected = torch.cat(
            [_plain(model, group.prompt, response) for group in groups for response in group.responses]
        )
        differences = []
        for share in (True, False):
            differences.append(float((_packed(model, groups, share) - expected).abs().mean()))
            if differences[-1] < TOLERANCE[model.dtype]:
                return share
    except (LayoutLostError, TypeError, ValueError, AttributeError) as error:  # decoders that are not of the usual form
        raise _refusal(model, str(error)) from error
    finally:
        model.train(was_training)
    raise _refusal(model, f"log-probabilities differ by {differences[-1]:.2g} nats from the plain forward's")


def _refusal(model: PreTrainedModel, reason: str) -> ModelError:
    return ModelError(
        given=f"{type(model).__name__} cannot be computed packed: {reason}",
        rule="packed sequences are computed exactly as plain ones",
        remedy="use a decoder with ordinary causal attention, such as Llama, Qwen or Mistral",
    )


def _groups(model: PreTrainedModel) -> list[Group]:
    """A group of two responses and one of one, the first longer than any window."""
    config = model.config.get_text_config(decoder=True)
    settings = config.to_dict()
    window = max(int(settings.get(name) or 0) for name in ("sliding_window", "attention_chunk_size"))
    longest = min(window + 8, config.max_position_embeddings - 16)
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> Tensor:
        return torch.randint(config.vocab_size, (count,), generator=generator)

    def response(count: int) -> Response:
        return Response(tokens=tokens(count), trainable=torch.ones(count, dtype=torch.bool))

    return [
        Group(prompt=tokens(max(longest, 12)), responses=(response(9), response(5))),
        Group(prompt=tokens(4), responses=(response(7),)),
    ]


def _plain(model: PreTrainedModel, prompt: Tensor, response: Response) -> Tensor:
    """[R] log-probabilities of a response by the untouched model."""
    tokens = torch.cat([prompt, response.tokens]).to(model.device)
    with plain_attention(model):
        logits = model(input_ids=tokens[None], use_cache=False, logits_to_keep=len(response.tokens) + 1).logits[0]
    logprobs = torch.log_softmax(logits[:-1].double(), dim=-1)
    return logprobs.gather(1, response.tokens.to(model.device)[:, None])[:, 0]


def _packed(model: PreTrainedModel, groups: list[Group], share: bool) -> Tensor:
    """[sum of R] log-probabilities by the packed forward, in the same order."""
    policy = Policy(model, tokenizer=None)
    budget = sum(part.num_tokens for group in groups for part in group.expanded())
    [microbatch] = pack(groups, budget, share=share)
    logprob = policy.score(microbatch.to(model.device), [Score.LOGPROB]).logprob
    assert logprob is not None, "the log-probability was asked for"
    return logprob.double()
