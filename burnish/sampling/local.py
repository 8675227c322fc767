"""Writing responses in the trainer's own process, with the trainer's own weights: nothing is copied or published.

Stands before training in the flow. Every prompt is computed once, packed with others; its keys serve all its responses.
A response that ends leaves at once and the next takes its place. All rows together make one forward of R tokens through
the model's own layers, with the attention of `model.decoding`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.errors import ModelError
from burnish.model.decoder import decoder_of
from burnish.model.decoding import Decoding, Prefill, ResponseKeys
from burnish.model.head import Head, accumulation_dtype
from burnish.model.linear import packed
from burnish.model.policy import Model
from burnish.model.prefix_cache import CacheSlot, PrefixCache, PromptArrangement
from burnish.model.products import HeadMatrix
from burnish.model.scoring import all_probabilities
from burnish.sampling.base import Prompt, StreamListener, check_prompts
from burnish.sampling.params import SamplingParams
from burnish.sampling.sequences import ActiveSequence, SamplingJob
from burnish.sampling.stopping import StopRules
from burnish.sampling.token_history import TokenHistory
from burnish.types import Group

CACHE_BYTES = 2**29
"""Default memory for the keys and values of responses; it decides how many are written at once."""
PREFILL_TOKENS = 4096
"""Tokens of prompts that are computed in one forward, unless one prompt is longer."""
LOGITS_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Memory for the logits of one chunk of rows, by the kind of device: a GPU is waited for once per chunk."""


@dataclass(frozen=True, eq=False, slots=True)
class LocalSampler:
    """Samples from a policy in training, which is left as it was: in its mode, with its gradients and random states."""

    policy: Model
    end_tokens: Collection[int]
    """Tokens that end a response."""
    most_positions: int
    """Most tokens of prompt and response together."""
    cache_bytes: int = CACHE_BYTES
    rows_at_once: int | None = None
    """Most responses that are written at once; None: as many as `cache_bytes` hold."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        params: SamplingParams,
        *,
        step: int = 0,
        watcher: StreamListener | None = None,
    ) -> list[Group]:
        """See `base.Sampler`; the watcher is told while responses are written.

        Raises:
            ModelError: a prompt fills all positions of the model, or the model cannot be computed packed.
        """
        assert n >= 1, "a group has at least one response"
        check_prompts(prompts, self.most_positions)
        self._check_route()
        rules = StopRules.of(
            self.end_tokens, params.stop_ids, params.stop, params.max_new_tokens, self.policy.tokenizer
        )
        with _writing(self.policy):
            return _Rollout(self, SamplingJob(prompts, n, params, rules, step, watcher)).groups()

    def _check_route(self) -> None:
        if not self.policy.share:
            raise ModelError(
                given=f"responses of {type(self.policy.causal_lm).__name__}, which cannot share a prompt",
                rule="this sampler computes a prompt once for all its responses",
                remedy="use a `PlainSampler`, which writes with any causal model",
            )


@contextmanager
def _writing(policy: Model) -> Iterator[None]:
    """Inside, the model evaluates and keeps no graph; afterwards every module has its mode again."""
    modes = [(module, module.training) for module in policy.model.modules()]
    try:
        policy.model.eval()
        with torch.no_grad(), packed(decoder_of(policy.causal_lm)):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(eq=False, slots=True)
class _Ready:
    """A prompt that was computed."""

    slot: CacheSlot
    """Where its keys are."""
    hidden: Tensor
    """[H] of its last token."""
    open: int
    """Responses that are not finished."""


class _Rollout:
    """One call of `sample`."""

    def __init__(self, sampler: LocalSampler, writing: SamplingJob) -> None:
        self.policy, self.writing, self.device = sampler.policy, writing, sampler.policy.device
        self.prompts, self.n = writing.prompts, writing.n
        self.head = _accumulating(sampler.policy.head)
        self.matrix = HeadMatrix.of(self.head.weight, self.head.weight.dtype).packed()
        room = max((sampler.most_positions - len(prompt.tokens) for prompt in self.prompts), default=1)
        self.most_tokens = min(writing.params.max_new_tokens, room)
        self.most_rows = min(len(self.prompts) * self.n, sampler.rows_at_once or self._rows_in(sampler.cache_bytes))
        self.waiting = deque(
            ActiveSequence(prompt=number, index=index, most_tokens=sampler.most_positions - len(prompt.tokens))
            for number, prompt in enumerate(self.prompts)
            for index in range(self.n)
        )
        self.ready: dict[int, _Ready] = {}
        self.rows: list[ActiveSequence] = []
        self.shelves, self.responses = PrefixCache(self.device), ResponseKeys(self.most_rows, self.most_tokens)
        self.lengths = torch.empty(0)
        self.arrangement: PromptArrangement | None = None  # of the rows as they are; None: they changed
        penalised, size = writing.params.repetition_penalty != 1, self.head.weight.shape[0]
        self.seen = TokenHistory(self.most_rows, size, self.device) if penalised else None

    def groups(self) -> list[Group]:
        """Runs to the end."""
        hidden = self._admit(None)
        while hidden is not None:
            self._write(hidden)
            kept = self._leave()
            hidden = self._admit(self._forward() if kept else None)
        return self.writing.groups()

    def _rows_in(self, cache_bytes: int) -> int:
        """How many responses have room; at least one."""
        config = self.policy.causal_lm.config.get_text_config(decoder=True)
        size = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
        heads = config.to_dict().get("num_key_value_heads") or config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * size * self.policy.causal_lm.dtype.itemsize
        return max(1, cache_bytes // (token * self.most_tokens))

    def _admit(self, hidden: Tensor | None) -> Tensor | None:
        """Fills free places with waiting responses; adds the hidden state of their prompt's last token to [R, H]."""
        free = self.most_rows - len(self.rows)
        fresh = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        if not fresh:
            return hidden
        self._prefill([number for number in dict.fromkeys(row.prompt for row in fresh) if number not in self.ready])
        if self.seen is not None:
            for place, row in enumerate(fresh, len(self.rows)):
                self.seen.begin(place, self.prompts[row.prompt].tokens)
        self.rows += fresh
        self.arrangement = None
        new = torch.stack([self.ready[row.prompt].hidden for row in fresh])
        return new if hidden is None else torch.cat([hidden, new])

    def _prefill(self, numbers: Sequence[int]) -> None:
        """Computes prompts, as many at once as the bound allows."""
        batch: list[int] = []
        for number in numbers:
            size = sum(len(self.prompts[each].tokens) for each in (*batch, number))
            if batch and size > PREFILL_TOKENS:
                self._prefill_batch(batch)
                batch = []
            batch.append(number)
        if batch:
            self._prefill_batch(batch)

    def _prefill_batch(self, numbers: Sequence[int]) -> None:
        tokens = [self.prompts[number].tokens for number in numbers]
        prefill = Prefill.of([len(each) for each in tokens], self.device)
        hidden = self.policy.decode(torch.cat(tokens).to(self.device), prefill.layout.positions, prefill)
        lasts = torch.tensor([len(each) for each in tokens]).cumsum(0) - 1
        # Copies: views would keep the hidden states of whole prompts.
        for number, slot, last in zip(numbers, self.shelves.put(prefill.prompts()), lasts.tolist(), strict=True):
            self.ready[number] = _Ready(slot, hidden[last].clone(), open=self.n)

    def _write(self, hidden: Tensor) -> None:
        """Chooses the next token of every row from the hidden states [R, H], and notes which rows end with it."""
        size = max(1, LOGITS_BYTES[self.device.type] // (self.head.weight.shape[0] * self.head.weight.element_size()))
        for start in range(0, len(self.rows), size):
            part = slice(start, start + size)
            temperature = self.writing.params.scored_temperature
            probabilities, partition = all_probabilities(hidden[part], self.head, self.matrix, temperature=temperature)
            seen = None if self.seen is None else self.seen.of(slice(start, start + len(probabilities)))
            tokens = self.writing.choose(self.rows[part], probabilities, partition, seen)
            if self.seen is not None:
                self.seen.add(start, torch.tensor(tokens))

    def _leave(self) -> bool:
        """Takes finished rows out and closes the gaps; returns whether any row goes on."""
        last = len(self.rows) - 1
        for place in reversed(range(len(self.rows))):
            row = self.rows[place]
            if row.finish is None:
                continue
            self._close(row)
            if place != last:
                self.rows[place] = self.rows[last]
                self.responses.move(last, place, len(self.rows[last].tokens) - 1)
                if self.seen is not None:
                    self.seen.move(last, place)
            self.rows.pop()
            last -= 1
        return bool(self.rows)

    def _close(self, row: ActiveSequence) -> None:
        self.arrangement = None
        self.writing.close(row, self.head.weight.dtype)
        prompt = self.ready[row.prompt]
        prompt.open -= 1
        if prompt.open == 0:
            self.shelves.free(prompt.slot)
            del self.ready[row.prompt]

    def _forward(self) -> Tensor:
        """[R, H] the hidden states of the rows' newest tokens."""
        tokens = torch.tensor([row.tokens[-1] for row in self.rows], device=self.device)
        decoding = self._decoding()
        return self.policy.decode(tokens, decoding.positions, decoding)

    def _decoding(self) -> Decoding:
        if self.arrangement is None:
            self.arrangement = self.shelves.arrange([self.ready[row.prompt].slot for row in self.rows])
            self.lengths = torch.tensor([len(self.prompts[row.prompt].tokens) for row in self.rows], device=self.device)
        counts = [len(row.tokens) - 1 for row in self.rows]
        places = torch.tensor(counts, device=self.device)
        return Decoding(
            responses=self.responses,
            places=places,
            longest=max(counts) + 1,
            arrangement=self.arrangement,
            lengths=self.lengths,
            positions=self.lengths + places,
        )


def _accumulating(head: Head) -> Head:
    """The head in the type of accumulation, converted once for all tokens."""
    dtype = accumulation_dtype(head.weight.dtype)
    bias = None if head.bias is None else head.bias.to(dtype)
    return replace(head, weight=head.weight.to(dtype), bias=bias)
