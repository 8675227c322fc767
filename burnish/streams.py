"""Token-aligned streams of numbers: declared once, and what is done with all of them.

`types.Response` and `types.Microbatch` inherit the declaration, and packing, joining, storing and filling go through
the functions below: a new stream is one field of `Streams` and no other line. Imports only torch.

Axes in comments: A tokens (R of a response, S scored ones of a microbatch), K candidates of a teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Declaration:
    """Type of a stream. Example: ``Declaration(axes=1, dtypes=(torch.int64,))``."""

    axes: int = 0
    """Number of axes after that of the tokens."""
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    """Permitted types of its numbers."""


_KEY = "declaration"
_FLOAT = {_KEY: Declaration()}
_TOP_K_FLOAT = {_KEY: Declaration(axes=1)}
_TOP_K_INTEGER = {_KEY: Declaration(axes=1, dtypes=(torch.int64,))}
_INTEGER = {_KEY: Declaration(dtypes=(torch.int64,))}
_STATES = {_KEY: Declaration(axes=1, dtypes=(torch.float32, torch.float64, torch.bfloat16))}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Streams:
    """Token-aligned streams: [R, …] in a `Response`, [S, …] in a `Microbatch`, which has the scored tokens only.

    Floats are float32 (float64 in tests). None: not computed; in a microbatch, that no response has it. Where some
    responses of a microbatch lack a stream that others have, and at trained prompt tokens, it is 0. All responses of a
    microbatch have the same K. Fields that differ between the two records (weights), or that a microbatch does not
    have (trainable, policy_version), are no streams.
    """

    sampler_logprobs: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] nats, as the sampler computed them; None in data sets."""
    old_logprobs: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] nats, as the trainer computed them before the first update of the batch."""
    advantages: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A], unit of the reward."""
    reference_logprobs: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] nats under the reference model."""
    teacher_logprobs: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] nats under the teacher; with `byte_groups`, those of the teacher's run of tokens, at the last token of the
    student's, and 0 at its others."""
    teacher_topk_tokens: Tensor | None = field(default=None, metadata=_TOP_K_INTEGER)
    """[A, K] int64, the K token ids that the teacher finds most probable in the place of each token."""
    teacher_topk_logprobs: Tensor | None = field(default=None, metadata=_TOP_K_FLOAT)
    """[A, K] nats of `teacher_topk_tokens` under the teacher."""
    teacher_tail_logprobs: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] nats, log of the probability of all tokens outside of `teacher_topk_tokens` together under the teacher."""
    teacher_states: Tensor | None = field(default=None, metadata=_STATES)
    """[A, H] last hidden states of the teacher from which it predicts each token, in its type."""
    teacher_index: Tensor | None = field(default=None, metadata=_INTEGER)
    """[A] int64, index of the token's teacher among those of the stage."""
    byte_groups: Tensor | None = field(default=None, metadata=_INTEGER)
    """[A] int64, 1 + the index within the response of the run of tokens that span the same bytes as a run of the
    teacher's tokens; 0: the token is in none. None: the tokens are those of the teacher."""
    values: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] the critic's V(s_t), unit of the reward: of the state before each token, where the token is predicted."""
    returns: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] unit of the reward: the critic's target of V(s_t)."""
    step_rewards: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] unit of the reward: weighted reward of the step that ends at a token; 0: no step ends there."""
    step_labels: Tensor | None = field(default=None, metadata=_FLOAT)
    """[A] label of the step that ends at a token; NaN: no step ends there."""


DECLARATIONS: Mapping[str, Declaration] = {entry.name: entry.metadata[_KEY] for entry in fields(Streams)}
STREAMS = tuple(DECLARATIONS)
"""Names of all streams."""

Record = TypeVar("Record", bound=Streams)


def check_streams(record: Streams, num_tokens: int) -> None:
    """Asserts that every stream has its declared type and is aligned with the tokens."""
    for name, stream in present_streams(record).items():
        declared = DECLARATIONS[name]
        assert len(stream) == num_tokens, f"{name} is aligned with {num_tokens} tokens: {tuple(stream.shape)}"
        assert stream.dim() == 1 + declared.axes, f"{name} has {1 + declared.axes} axes: {tuple(stream.shape)}"
        assert stream.dtype in declared.dtypes, f"{name} is one of {declared.dtypes}, got {stream.dtype}"


def present_streams(record: Streams) -> dict[str, Tensor]:
    """Name → stream, of those that the record has."""
    streams = ((name, getattr(record, name)) for name in STREAMS)
    return {name: stream for name, stream in streams if stream is not None}


def concatenate_streams(parts: Sequence[Mapping[str, Tensor]], sizes: Sequence[int]) -> dict[str, Tensor]:
    """Joins the streams of consecutive tokens. A stream that only some parts have is 0 at the tokens of the others.

    Args:
        parts: name → stream of each part.
        sizes: number of tokens of each part.
    """
    joined = {}
    for name in STREAMS:
        present = [part[name] for part in parts if name in part]
        if present:
            shape = present[0].shape[1:]
            assert all(stream.shape[1:] == shape for stream in present), f"{name} has one shape in a microbatch"
            zeros = (present[0].new_zeros((size, *shape)) for size in sizes)
            joined[name] = torch.cat([part.get(name, zero) for part, zero in zip(parts, zeros, strict=True)])
    return joined


def with_stream(record: Record, name: str, values: Tensor) -> Record:
    """The record with the stream of that name replaced; its declaration is checked."""
    assert name in DECLARATIONS, f"a stream is one of {', '.join(STREAMS)}, not {name}"
    changed: dict[str, Any] = {name: values}
    return replace(record, **changed)


def spread(values: Tensor, trainable: Tensor) -> Tensor:
    """Spreads values of the scored tokens [S_r, …] over the response [R, …]; 0 at tokens that are not trained."""
    stream = values.new_zeros((len(trainable), *values.shape[1:]))
    stream[trainable] = values
    return stream
