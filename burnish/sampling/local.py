"""Local sampler: generates responses in the trainer's process with the trainer's weights, which are not copied.

Every prompt is computed once, packed with others, and all its responses use its keys; what prompts of one forward begin
with is computed once for them. When a response ends, the next one takes its place at once (continuous batching). All
active sequences together make one forward of R tokens through
the model's own layers, with the attention of `model.decoding`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.decoder import decoder_of
from burnish.model.decoding import Decoding, Prefill, ResponseKeys
from burnish.model.head import Head, accumulation_dtype
from burnish.model.linear import packed
from burnish.model.logits import all_probabilities
from burnish.model.policy import Model
from burnish.model.prefix_cache import CacheSlot, PrefixCache, PromptArrangement
from burnish.model.products import HeadMatrix
from burnish.prefix_tree import PrefixTree, tree_of
from burnish.sampling.base import SampleRequest, StreamListener, check_requests
from burnish.sampling.in_process import InProcessSampler
from burnish.sampling.params import SamplingParams
from burnish.sampling.sequences import ActiveSequence, SamplingJob
from burnish.sampling.stopping import StopRules
from burnish.sampling.token_history import TokenHistory
from burnish.types import Group

CACHE_BYTES = 2**29
"""Default memory for the keys and values of responses; it determines how many are generated at once."""
PREFILL_TOKENS = 4096
"""Maximum prompt tokens of one prefill, unless one prompt is longer."""
LOGITS_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Memory for the logits of one chunk of sequences, by device type; each chunk waits once for a GPU."""


@dataclass(eq=False)
class LocalSampler(InProcessSampler):
    """Sampler of a policy in training, whose mode, gradients and random states are restored afterwards."""

    policy: Model
    end_tokens: Collection[int]
    """Tokens that end a response."""
    max_positions: int
    """Maximum tokens of prompt and response together."""
    cache_bytes: int = CACHE_BYTES
    max_sequences: int | None = None
    """Maximum number of responses generated at once; None: as many as `cache_bytes` hold."""

    @property
    def generator(self) -> PreTrainedModel | PeftModel:
        return self.policy.model

    def sample(
        self,
        requests: Sequence[SampleRequest],
        n: int,
        params: SamplingParams,
        *,
        step: int = 0,
        listener: StreamListener | None = None,
    ) -> list[Group]:
        """Generates responses, see `base.Sampler`.

        Raises:
            ModelError: a prompt fills all positions of the model, or the model cannot be computed packed.
        """
        assert n >= 1, "a group has at least one response"
        check_requests(requests, self.max_positions)
        self._check_route()
        rules = StopRules.of(
            self.end_tokens, params.stop_ids, params.stop, params.max_new_tokens, self.policy.tokenizer
        )
        with _evaluating(self.policy):
            job = SamplingJob(requests, n, params, rules, step=step, version=self.version, listener=listener)
            return _Generation(self, job).groups()

    def _check_route(self) -> None:
        if not self.policy.share:
            raise ModelError(
                given=f"responses of {type(self.policy.causal_lm).__name__}, which cannot share a prompt",
                rule="this sampler computes a prompt once for all its responses",
                remedy="use a `PlainSampler`, which works with any causal model",
            )


@contextmanager
def _evaluating(policy: Model) -> Iterator[None]:
    """Context manager with the model in evaluation mode and without gradients; afterwards modes are restored."""
    modes = [(module, module.training) for module in policy.model.modules()]
    try:
        policy.model.eval()
        with torch.no_grad(), policy.placement.gathered(), packed(decoder_of(policy.causal_lm)):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(eq=False, slots=True)
class _CachedPrompt:
    """Prompt after its prefill."""

    slot: CacheSlot
    """Slot of its keys."""
    hidden: Tensor
    """[H] hidden state of its last token."""
    unfinished: int
    """Number of unfinished responses."""
    shift: int
    """What the positions of its responses have more than their indices, after images."""


class _Generation:
    """State of one call of `sample`."""

    def __init__(self, sampler: LocalSampler, job: SamplingJob) -> None:
        self.policy, self.job, self.device = sampler.policy, job, sampler.policy.device
        self.requests, self.n = job.requests, job.n
        self.head = _accumulating(sampler.policy.head)
        self.matrix = HeadMatrix.of(self.head.weight, self.head.weight.dtype).packed()
        room = max((sampler.max_positions - len(request.tokens) for request in self.requests), default=1)
        self.max_tokens = min(job.params.max_new_tokens, room)
        limit = sampler.max_sequences or self._sequences_in(sampler.cache_bytes)
        self.max_sequences = min(len(self.requests) * self.n, limit)
        self.waiting = deque(
            ActiveSequence(request=number, index=index, max_tokens=sampler.max_positions - len(request.tokens))
            for number, request in enumerate(self.requests)
            for index in range(self.n)
        )
        self.cached: dict[int, _CachedPrompt] = {}
        self.active: list[ActiveSequence] = []
        self.prefix_cache = PrefixCache(self.device)
        self.responses = ResponseKeys(self.max_sequences, self.max_tokens)
        self.lengths = self.shifts = torch.empty(0)
        self.arrangement: PromptArrangement | None = None  # of the active sequences; None: they changed
        penalized, size = job.params.repetition_penalty != 1, self.head.vocabulary
        self.seen = TokenHistory(self.max_sequences, size, self.device) if penalized else None

    def groups(self) -> list[Group]:
        """Generates all responses."""
        hidden = self._admit(None)
        while hidden is not None:
            self._choose_tokens(hidden)
            any_active = self._remove_finished()
            hidden = self._admit(self._forward() if any_active else None)
        return self.job.groups()

    def _sequences_in(self, cache_bytes: int) -> int:
        """Number of responses whose keys and values fit; at least one."""
        config = self.policy.causal_lm.config.get_text_config(decoder=True)
        size = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
        heads = config.to_dict().get("num_key_value_heads") or config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * size * self.policy.causal_lm.dtype.itemsize
        return max(1, cache_bytes // (token * self.max_tokens))

    def _admit(self, hidden: Tensor | None) -> Tensor | None:
        """Starts waiting responses in free places; appends the hidden state of their prompt's last token to [R, H]."""
        free = self.max_sequences - len(self.active)
        admitted = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        if not admitted:
            return hidden
        numbers = dict.fromkeys(sequence.request for sequence in admitted)
        self._prefill([number for number in numbers if number not in self.cached])
        if self.seen is not None:
            for place, sequence in enumerate(admitted, len(self.active)):
                self.seen.begin(place, self.requests[sequence.request].tokens)
        self.active += admitted
        self.arrangement = None
        new = torch.stack([self.cached[sequence.request].hidden for sequence in admitted])
        return new if hidden is None else torch.cat([hidden, new])

    def _prefill(self, numbers: Sequence[int]) -> None:
        """Computes prompts, as many at once as `PREFILL_TOKENS` allows, in the order of their prefix tree."""
        if not numbers:
            return
        if self.policy.vision is not None:
            self.policy.vision.prepare(medium for number in numbers for medium in self.requests[number].media)
        shown = any(self.requests[number].media for number in numbers)
        tokens = [self.requests[number].tokens for number in numbers]
        tree = (None if shown else tree_of(tokens)) or PrefixTree.flat(len(numbers))
        batch: list[int] = []
        size = 0
        for index, shared in zip(tree.order, tree.shared, strict=True):
            length = len(self.requests[numbers[index]].tokens)
            if batch and size + length - shared > PREFILL_TOKENS:
                self._prefill_batch(batch)
                batch = []
            size = size + length - shared if batch else length
            batch.append(numbers[index])
        if batch:
            self._prefill_batch(batch)

    def _prefill_batch(self, numbers: Sequence[int]) -> None:
        requests = [self.requests[number] for number in numbers]
        if self.policy.vision is not None:
            for request in requests:
                self.policy.vision.require_media(request.tokens, request.media)
        prefill = Prefill.of(
            [request.tokens for request in requests], self.device, [request.media for request in requests]
        )
        hidden = self.policy.decode(prefill.tokens, prefill.layout.positions, prefill, prefill.media)
        # Copies: views would keep the hidden states of whole prompts.
        slots = self.prefix_cache.put(prefill.lengths, prefill.prompts())
        for number, slot, last in zip(numbers, slots, prefill.ends, strict=True):
            shift = self.policy.position_shift(self.requests[number].tokens, self.requests[number].media)
            self.cached[number] = _CachedPrompt(slot, hidden[last].clone(), unfinished=self.n, shift=shift)

    def _choose_tokens(self, hidden: Tensor) -> None:
        """Chooses the next token of every sequence from hidden states [R, H], and marks finished sequences."""
        size = max(1, LOGITS_BYTES[self.device.type] // (self.head.vocabulary * self.head.weight.element_size()))
        for start in range(0, len(self.active), size):
            part = slice(start, start + size)
            temperature = self.job.params.scored_temperature
            probabilities, partition = all_probabilities(hidden[part], self.head, self.matrix, temperature=temperature)
            seen = None if self.seen is None else self.seen.of(slice(start, start + len(probabilities)))
            tokens = self.job.choose(self.active[part], probabilities, partition, seen)
            if self.seen is not None:
                self.seen.add(start, torch.tensor(tokens))

    def _remove_finished(self) -> bool:
        """Removes finished sequences and closes the gaps; returns whether any sequence is left."""
        last = len(self.active) - 1
        for place in reversed(range(len(self.active))):
            sequence = self.active[place]
            if sequence.finish is None:
                continue
            self._close(sequence)
            if place != last:
                self.active[place] = self.active[last]
                self.responses.move(last, place, len(self.active[last].tokens) - 1)
                if self.seen is not None:
                    self.seen.move(last, place)
            self.active.pop()
            last -= 1
        return bool(self.active)

    def _close(self, sequence: ActiveSequence) -> None:
        self.arrangement = None
        self.job.close(sequence, self.head.weight.dtype)
        prompt = self.cached[sequence.request]
        prompt.unfinished -= 1
        if prompt.unfinished == 0:
            self.prefix_cache.free(prompt.slot)
            del self.cached[sequence.request]

    def _forward(self) -> Tensor:
        """[R, H] the hidden states of the sequences' newest tokens."""
        tokens = torch.tensor([sequence.tokens[-1] for sequence in self.active], device=self.device)
        decoding = self._decoding()
        return self.policy.decode(tokens, decoding.positions + self.shifts, decoding)

    def _decoding(self) -> Decoding:
        if self.arrangement is None:
            slots = [self.cached[sequence.request].slot for sequence in self.active]
            self.arrangement = self.prefix_cache.arrange(slots)
            lengths = [len(self.requests[sequence.request].tokens) for sequence in self.active]
            self.lengths = torch.tensor(lengths, device=self.device)
            shifts = [self.cached[sequence.request].shift for sequence in self.active]
            self.shifts = torch.tensor(shifts, device=self.device)
        num_tokens = [len(sequence.tokens) - 1 for sequence in self.active]
        counts = torch.tensor(num_tokens, device=self.device)
        return Decoding(
            responses=self.responses,
            counts=counts,
            longest=max(num_tokens) + 1,
            arrangement=self.arrangement,
            lengths=self.lengths,
            positions=self.lengths + counts,
        )


def _accumulating(head: Head) -> Head:
    """The head in the accumulation type, converted once for all tokens."""
    dtype = accumulation_dtype(head.weight.dtype)
    bias = None if head.bias is None else head.bias.to(dtype)
    return replace(head, weight=head.weight.to(dtype), bias=bias)
