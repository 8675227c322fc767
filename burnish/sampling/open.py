"""The sampler for a model of this process: the fast one where the model shares prompts, else the plain one."""

from __future__ import annotations

from collections.abc import Collection

from burnish.errors import ModelError
from burnish.model.load import max_positions
from burnish.model.open import LoadedModel, policy_of
from burnish.model.policy import Model
from burnish.sampling.local import LocalSampler
from burnish.sampling.plain import PlainSampler, positions_of

InProcess = LocalSampler | PlainSampler


def sampler_of(policy: Model, end_tokens: Collection[int], most_positions: int | None = None) -> InProcess:
    """Writes with the policy's weights of the moment.

    Args:
        policy: as the probe found that it can be computed.
        end_tokens: tokens that end a response.
        most_positions: most tokens of prompt and response together; None: as many as the model has. Where packed rows
            are exact for fewer (rotary scaling that depends on length), the plain sampler writes.
    """
    exact = max_positions(policy.causal_lm.config)
    most = positions_of(policy.causal_lm) if most_positions is None else most_positions
    if policy.share and most <= exact:
        return LocalSampler(policy, end_tokens, most)
    return PlainSampler(policy.model, policy.tokenizer, end_tokens, most)


def open_sampler(
    opened: LoadedModel, end_tokens: Collection[int], most_positions: int | None = None
) -> tuple[InProcess, tuple[str, ...]]:
    """Writes with a model that was opened; and lines for people, if it is done the plain way.

    Args:
        opened: not yet probed.
        end_tokens: see `sampler_of`.
        most_positions: see `sampler_of`.
    """
    try:
        sampler = sampler_of(policy_of(opened), end_tokens, most_positions)
    except ModelError as error:  # no route computes its groups; writing needs none
        sampler = plain_sampler(opened, end_tokens, most_positions)
        return sampler, (f"prompts are computed for every response: {error.given}",)
    return sampler, ()


def plain_sampler(opened: LoadedModel, end_tokens: Collection[int], most_positions: int | None = None) -> PlainSampler:
    """Writes with a model that was opened, without a probe; see `sampler_of` for the arguments."""
    most = positions_of(opened.causal_lm) if most_positions is None else most_positions
    return PlainSampler(opened.model, opened.tokenizer, end_tokens, most)
