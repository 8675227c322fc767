"""Records that cross files: groups, packed microbatches, scores, outputs of losses.

Every module may import this one, which imports only torch, `streams`, `prefix_tree` and `layout`. A *group* is one
prompt and its n responses; every method is a way of getting groups, a way of crediting their tokens, and a loss on the
credit.

Axes in comments: P prompt tokens, R response tokens, N packed tokens, S scored tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from burnish.layout import Layout, move
from burnish.prefix_tree import MIN_SAVED, Fork, PrefixTree, common_prefix, tree_of
from burnish.streams import Streams, check_streams

Finish = Literal["end", "length"]
"""How a response ended: by an end token, or at the limit of tokens (truncated)."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Response(Streams):
    """One response with its token-aligned streams [R, …], see `Streams`.

    A multi-turn trajectory is one response: tokens that the policy did not write (a user's turn, a tool's output) are
    in ``tokens`` with ``trainable`` False. Tokens are never re-tokenized.

    Example: ``Response(tokens=tensor([5, 6, 2]), trainable=tensor([True, True, True]))``.
    """

    tokens: Tensor
    """[R] int64 token ids, R >= 1."""
    trainable: Tensor
    """[R] bool; True for tokens that the loss scores."""
    weights: Tensor | None = None
    """[R] float32 >= 0, weight of each token's loss; None: 1 everywhere."""
    policy_version: Tensor | None = None
    """[R] int64, the optimizer step whose weights sampled each token; None: from a data set."""
    reward: float | None = None
    """Reward: from a grader; or the data's score, in a group that is ranked best first; or 1 and 0 for desirable and
    undesirable. None: not graded, or grading failed (a failure is never reward 0)."""
    scores: tuple[float, ...] | None = None
    """K scores of the data, in the order of the stage's names of scores; None: it has one score, or none."""
    bootstrap_value: float | None = None
    """The critic's value of the state after the last token, unit of the reward; None: not computed."""
    finish: Finish | None = None
    """How it ended; None: from a data set."""
    forks: tuple[Fork, ...] = ()
    """Begins of its further texts, ascending, where it is several texts that are learned and compared as one (a
    template writes earlier turns anew). (): it is one text."""

    def __post_init__(self) -> None:
        size = self.tokens.shape
        assert len(size) == 1 and size[0] >= 1, f"a response is one row of at least one token, got shape {tuple(size)}"
        assert self.tokens.dtype == torch.int64, f"token ids are int64, got {self.tokens.dtype}"
        assert self.trainable.dtype == torch.bool, f"trainable is bool, got {self.trainable.dtype}"
        for name, tensor in (
            ("trainable", self.trainable),
            ("weights", self.weights),
            ("policy_version", self.policy_version),
        ):
            assert tensor is None or tensor.shape == size, f"{name} is aligned with tokens: {tensor.shape} != {size}"
        check_streams(self, len(self.tokens))
        for text, after in zip((Fork(0, 0), *self.forks), self.forks, strict=False):
            assert text.start < after.start < len(self.tokens), "every text of a response has tokens of its own"
            assert after.shared <= text.shared + after.start - text.start, "a text forks from the one before it"

    @property
    def texts(self) -> tuple[tuple[int, int, int], ...]:
        """(first own token, end, tokens after the prompt shared with the text before) of each text; one, as a rule."""
        begins = (Fork(0, 0), *self.forks)
        ends = (*(fork.start for fork in self.forks), len(self.tokens))
        return tuple((fork.start, end, fork.shared) for fork, end in zip(begins, ends, strict=True))

    def rows(self, prompt: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """Each text with the prompt [L], as a plain forward takes it, and which of the response's tokens end it."""
        for sequence, (start, end, _) in zip(self.sequences, self.texts, strict=True):
            yield torch.cat([prompt, sequence]), slice(start, end)

    @property
    def sequences(self) -> tuple[Tensor, ...]:
        """[L] tokens after the prompt of each text, with those that it shares; one, as a rule: its tokens."""
        found: list[Tensor] = []
        for start, end, shared in self.texts:
            own = self.tokens[start:end]
            found.append(torch.cat([found[-1][:shared], own]) if found else own)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class MediaRef:
    """Reference to an image in a prompt, never its content.

    Example: ``MediaRef("image", "/data/cat.png", span=(3, 67), digest="9f86…", num_patches=256)``.
    """

    kind: Literal["image"]
    source: str
    """Absolute path of its file."""
    span: tuple[int, int]
    """Tokens [start, end) of the prompt that stand for it, from its first image token to its last."""
    digest: str
    """sha256 of the file, hexadecimal."""
    num_patches: int = 0
    """Patches that the vision tower computes for it."""


@dataclass(frozen=True, eq=False, slots=True)
class PlacedImage:
    """Image of a prompt among packed tokens. Made by `place_images`; it stays on the host."""

    medium: MediaRef
    start: int
    """Packed position of the first token of its prompt."""
    positions: Tensor
    """[n] int64, packed positions of the n tokens that get its features."""


def place_images(media: Sequence[MediaRef], prompt: Tensor, start: int) -> list[PlacedImage]:
    """The images of a prompt [P] whose tokens are packed from `start` on.

    The first token of a span is an image token, and others of it are text between the parts of an image.
    """
    placed = []
    for medium in media:
        first, end = medium.span
        own = prompt[first:end]
        placed.append(PlacedImage(medium, start, (own == own[0]).nonzero()[:, 0] + start + first))
    return placed


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Group:
    """One prompt and its n >= 1 responses: the unit of all data, all sampling and all learning.

    The prompt is the longest common *token* prefix of the full renderings, and is computed once for all responses. It
    has at least one token, from which the model predicts: a plain document's first token is its prompt.

    Example: question "2+2=" answered twice: ``Group(prompt=tensor([9, 4, 9]), responses=(right, wrong))``.
    """

    prompt: Tensor
    """[P] int64 token ids, P >= 1."""
    responses: tuple[Response, ...]
    """The responses; in comparisons best first: a pair is (chosen, rejected)."""
    prompt_weights: Tensor | None = None
    """[P] float32: how often each prompt token's loss counts (its *multiplicity*: n, if every response of an expanded
    group would train it once). The first entry is 0: nothing predicts the first token. None: no prompt token trains."""
    scored_only: bool = False
    """True: the group is scored without gradient before the step and is in no denominator; the loss takes constants
    from it (`Loss.with_measurements`; KTO's mismatched pairs)."""
    media: tuple[MediaRef, ...] = ()
    """Images of the prompt, in their order; (): the prompt is text. Each is computed once for all responses."""
    tree: PrefixTree | None = None
    """What responses share beyond the prompt; None: nothing that is computed once."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Origin of the group (file, line, source); never read by a loss."""

    def __post_init__(self) -> None:
        assert self.prompt.dim() == 1 and len(self.prompt) >= 1, "a prompt is one row of at least one token"
        assert self.prompt.dtype == torch.int64, f"token ids are int64, got {self.prompt.dtype}"
        assert self.responses, "a group has at least one response"
        if self.prompt_weights is not None:
            assert self.prompt_weights.shape == self.prompt.shape, "prompt_weights is aligned with the prompt"
            assert float(self.prompt_weights[0]) == 0, "the first prompt token has no predictor, its weight is 0"
        assert self.tree is None or len(self.tree.order) == len(self.responses), "the tree is one of all responses"

    @property
    def num_tokens(self) -> int:
        """Tokens to compute when they are shared: P + sum of R, less what responses have in common."""
        shared = 0 if self.tree is None else sum(self.tree.shared)
        return len(self.prompt) + sum(len(response.tokens) for response in self.responses) - shared

    def subset(self, members: Sequence[int]) -> Group:
        """The group with some of its responses, by their indices, ascending. Prompt weights stay as they are."""
        if len(members) == len(self.responses):
            return self
        tree = None if self.tree is None else self.tree.subset(members)
        tree = None if tree is None or tree.is_flat else tree
        return replace(self, responses=tuple(self.responses[index] for index in members), tree=tree)

    def with_tree(self, min_saved: int = MIN_SAVED) -> Group:
        """The group in which responses that begin alike share their common tokens, see `prefix_tree.tree_of`."""
        if len(self.responses) < 2:
            return self
        if not any(response.forks for response in self.responses):
            return replace(self, tree=tree_of([response.tokens for response in self.responses], min_saved))
        sequences = [response.sequences for response in self.responses]
        common = [common_prefix(one[-1], other[0]) for one, other in pairwise(sequences)]
        shared = (0, *(size if size >= min_saved else 0 for size in common))
        return replace(self, tree=PrefixTree(tuple(range(len(shared))), shared) if any(shared) else None)

    def expanded(self) -> tuple[Group, ...]:
        """The same learning problem without sharing: one group per response, the prompt repeated.

        Trained prompt tokens keep their total weight, carried by the first part alone.
        """
        return tuple(
            replace(self, responses=(response,), tree=None, prompt_weights=self.prompt_weights if index == 0 else None)
            for index, response in enumerate(self.responses)
        )


class Denominator(StrEnum):
    """Divisor of a loss term, counted over a whole step before its first forward pass."""

    TOKENS = "tokens"
    """Trained tokens, each once; a trained prompt token of a shared prompt too, so only WEIGHT knows multiplicities."""
    WEIGHT = "weight"
    """The sum of the weights of trained tokens; equal to TOKENS where no weights are given."""
    SEQUENCES = "sequences"
    """Responses."""
    GROUPS = "groups"
    """Prompts."""
    CHOSEN_WEIGHT = "chosen_weight"
    """The sum of the weights of the trained tokens of every group's first response, without the prompt."""
    DESIRABLE = "desirable"
    """Responses whose reward is 1."""
    UNDESIRABLE = "undesirable"
    """Responses whose reward is 0."""


@dataclass(frozen=True, slots=True)
class EmbeddingNoise:
    """Parameters of the noise on a microbatch's embeddings, see `model.noise`. Example: ``EmbeddingNoise(5.0, 0,
    9)``."""

    alpha: float
    """Scale of the noise, > 0."""
    seed: int
    """Seed of the training."""
    step: int
    """Number of optimizer steps before this one."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Microbatch(Streams):
    """Groups packed into one sequence without padding, ready for one forward pass. Made by `packing.pack`.

    The scored tokens are those that train, S of them, in the order of groups, prompts before responses; the streams
    [S, …] are theirs (see `Streams`). Targets map to packed positions many-to-one: the last prompt token predicts the
    first token of every response, and a token that several responses share is scored once for each that trains it.
    """

    tokens: Tensor
    """[N] int64."""
    layout: Layout
    predictor_positions: Tensor
    """[S] int64, the packed position that predicts each scored token."""
    token_positions: Tensor
    """[S] int64, the packed position of each scored token itself: where a value head is read."""
    gather_rounds: tuple[Tensor, ...]
    """A partition of range(S) such that `predictor_positions` has no duplicate inside one round (the k-th use of a
    position is in round k), for a deterministic backward pass of the gather."""
    targets: Tensor
    """[S] int64 token ids."""
    sequence: Tensor
    """[S] int64, index of the response that each scored token belongs to, in this microbatch (a trained prompt token
    belongs to the first response of its group)."""
    weights: Tensor
    """[S] float32 >= 0."""
    response_positions: Tensor
    """[S] int64, index of each scored token among the scored tokens of its response; -1: a token of the prompt."""
    sequence_group: Tensor
    """[num_sequences] int64, index of each response's group in the step (not in the microbatch: groups may split)."""
    sequence_index: Tensor
    """[num_sequences] int64, index of each response in its whole group, even if the group was split."""
    sequence_siblings: Tensor
    """[num_sequences] int64, responses of each response's whole group, itself included."""
    sequence_reward: Tensor
    """[num_sequences] float32, as in Response; NaN: none."""
    sequence_scores: Tensor
    """[num_sequences, K] float32, as in Response; K = 0: there are none."""
    sequence_tokens: Tensor
    """[num_sequences] int64, scored tokens of each response."""
    sequence_end_positions: Tensor
    """[num_sequences] int64, packed position of the last token of each response, trained or not."""
    group_table: Tensor
    """[groups of the microbatch, largest group size] int64: in row g, column k the sequence that is response k of the
    g-th group of the microbatch (in the order of the step); -1: the group has no such response, or not in this
    microbatch."""
    groups_complete: bool
    """Whether every group of the microbatch has all its responses in it."""
    noise: EmbeddingNoise | None = None
    """Noise on the embeddings; None: none."""
    media: tuple[PlacedImage, ...] = ()
    """Images in their packed order."""

    def __post_init__(self) -> None:
        check_streams(self, len(self.targets))

    @property
    def num_sequences(self) -> int:
        return len(self.sequence_group)

    def to(self, device: torch.device) -> Microbatch:
        """The same microbatch on a device; copies to CUDA do not wait for it."""
        if self.tokens.device == device:
            return self
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        moved: dict[str, Any] = {
            name: move(value, device) for name, value in values.items() if isinstance(value, Tensor)
        }
        rounds = tuple(move(indices, device) for indices in self.gather_rounds)
        return replace(self, layout=self.layout.to(device), gather_rounds=rounds, **moved)


class Score(StrEnum):
    """A number that scoring can compute for every scored token. A loss declares the scores that it needs.

    With logits z (after the head's scale and soft-cap, divided by the temperature) and p = softmax(z):
    """

    LOGPROB = "logprob"
    """log p[target], nats."""
    ENTROPY = "entropy"
    """-sum p log p, nats."""
    LOG_PARTITION = "log_partition"
    """log sum exp z, what z-loss squares."""
    MEAN_LOGPROB = "mean_logprob"
    """The mean of log p over the vocabulary, what label smoothing adds."""
    LOG_COLLISION = "log_collision"
    """log sum p^2, nats: the log-probability that two samples are equal, to which WPO compares a token's
    probability."""
    DIVERGENCE = "divergence"
    """Divergence of p from the teacher's distribution, nats, see `model.divergence`."""
    AGREEMENT = "agreement"
    """1 where the most probable token is the teacher's, otherwise 0; without gradient."""
    VALUE = "value"
    """Output of a reward model's value head at the token itself; any unit, no softmax."""
    STATE_VALUE = "state_value"
    """Output of a critic's value head where the token is predicted: V(s_t) of the state before it; any unit."""


VALUE_SCORES = frozenset({Score.VALUE, Score.STATE_VALUE})
"""Scores of a value head; all others are of the output head."""
TEACHER_SCORES = frozenset({Score.DIVERGENCE, Score.AGREEMENT})
"""Scores of the output head that compare it with a teacher."""


class Scope(StrEnum):
    """Part of a step that a loss must see at once, because its value for one response depends on it."""

    SEQUENCE = "sequence"
    """The response alone."""
    GROUP = "group"
    """All responses of its group (a contrast)."""
    STEP = "step"
    """All groups of the step (a sort, a mean over pairs)."""


@dataclass(frozen=True, eq=False, slots=True)
class TokenScores:
    """Scores of the S scored tokens of a microbatch; float32 (float64 for float64 models).

    A score that was not computed is None. Every field but the last has the name of its `Score`.
    """

    logprob: Tensor | None = None
    """[S]"""
    entropy: Tensor | None = None
    """[S]"""
    log_partition: Tensor | None = None
    """[S]"""
    mean_logprob: Tensor | None = None
    """[S]"""
    log_collision: Tensor | None = None
    """[S]"""
    divergence: Tensor | None = None
    """[S]"""
    agreement: Tensor | None = None
    """[S]"""
    value: Tensor | None = None
    """[S]; [S, K] of a head with K > 1 outputs."""
    state_value: Tensor | None = None
    """[S]"""
    bootstrap_value: Tensor | None = None
    """[num_sequences], always detached: the value of the state after the last token of each response, trained or not.
    Computed with `state_value`."""

    def of(self, kind: Score) -> Tensor:
        """[S] (a value may be [S, K]), a score that was computed."""
        value: Tensor | None = getattr(self, kind.value)
        assert value is not None, f"a loss reads only scores that it declares in needs: not {kind.value}"
        return value


@dataclass(frozen=True, eq=False, slots=True)
class LossTerm:
    """One term of a loss: a sum over the microbatch with its denominator."""

    total: Tensor
    """Scalar with gradient: the sum over this microbatch, not a mean."""
    denominator: Denominator


@dataclass(frozen=True, eq=False, slots=True)
class LossOutput:
    """Output of a loss for a microbatch: terms to minimize, and metrics.

    The step's loss is the sum over terms of (sum over microbatches and ranks) / (denominator over the whole step).
    Example: ``LossOutput(terms={"cross_entropy": LossTerm(total, Denominator.WEIGHT)})``.
    """

    terms: Mapping[str, LossTerm]
    metrics: Mapping[str, LossTerm] = field(default_factory=dict)
    """Reported like terms, but not differentiated."""


Denominators = Mapping[Denominator, float]
"""The counts of a step, over all its microbatches and ranks, without groups that are only scored."""
