"""Opens the sampler for a model: `LocalSampler` if the model shares prompts, else `PlainSampler`."""

from __future__ import annotations

from collections.abc import Collection

from burnish.errors import ModelError
from burnish.model.open import LoadedModel, policy_of
from burnish.model.policy import Model
from burnish.model.positions import exact_positions
from burnish.sampling.base import Sampler
from burnish.sampling.local import LocalSampler
from burnish.sampling.plain import PlainSampler, positions_of


def sampler_of(policy: Model, end_tokens: Collection[int], max_positions: int | None = None) -> Sampler:
    """The sampler of a policy; it uses the policy's current weights.

    Args:
        policy: the policy, with its route.
        end_tokens: tokens that end a response.
        max_positions: maximum tokens of prompt and response together; None: the model's positions. If packed sequences
            are exact only for fewer (rotary scaling that depends on length), the plain sampler is used.

    Raises:
        ModelError: the plain sampler is needed, and processes divide the weights.
    """
    exact = exact_positions(policy.causal_lm.config)
    limit = positions_of(policy.causal_lm) if max_positions is None else max_positions
    if policy.share and limit <= exact:
        return LocalSampler(policy, end_tokens, limit)
    if policy.placement.is_divided:
        raise ModelError(
            given=f"responses of {type(policy.causal_lm).__name__}, which cannot share a prompt, with divided weights",
            rule="the sampler of divided weights computes a prompt once for all its responses",
            remedy="set parallel.shard: 1 and parallel.tensor: 1 (every process has all weights)",
        )
    return PlainSampler(policy.model, policy.tokenizer, end_tokens, limit)


def open_sampler(
    opened: LoadedModel, end_tokens: Collection[int], max_positions: int | None = None
) -> tuple[Sampler, tuple[str, ...]]:
    """The sampler of an opened model, and log lines if it is the plain one.

    Args:
        opened: a model that was not probed before.
        end_tokens: see `sampler_of`.
        max_positions: see `sampler_of`.
    """
    try:
        sampler = sampler_of(policy_of(opened), end_tokens, max_positions)
    except ModelError as error:  # no route computes its groups; the plain sampler needs none
        sampler = plain_sampler(opened, end_tokens, max_positions)
        return sampler, (f"prompts are computed for every response: {error.given}",)
    return sampler, ()


def plain_sampler(opened: LoadedModel, end_tokens: Collection[int], max_positions: int | None = None) -> PlainSampler:
    """The plain sampler of an opened model, without a probe; see `sampler_of` for the arguments."""
    limit = positions_of(opened.causal_lm) if max_positions is None else max_positions
    return PlainSampler(opened.model, opened.tokenizer, end_tokens, limit)
