"""Writing responses in the trainer's own process, with the trainer's own weights: nothing is copied or published.

Stands before training in the flow. Every prompt is computed once, packed with others; its keys serve all its responses.
A response that ends leaves at once and the next takes its place. All rows together make one forward of R tokens through
the model's own layers, with the attention of `model.decoding`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from burnish.errors import ModelError
from burnish.model.decoding import Decoding, Prefill, PromptKeys, ResponseKeys
from burnish.model.head import Head, accumulation_dtype
from burnish.model.policy import Policy
from burnish.model.scoring import all_probabilities
from burnish.sampling.base import Prompt
from burnish.sampling.choice import SamplingParams, choose
from burnish.sampling.stopping import StopRules
from burnish.sampling.uniform import uniform
from burnish.types import Finish, Group, Response

CACHE_BYTES = 2**29
"""Default memory for the keys and values of responses; it decides how many are written at once."""
PREFILL_TOKENS = 4096
"""Tokens of prompts that are computed in one forward, unless one prompt is longer."""
LOGITS_BYTES = 2**24
"""Memory for the logits of one chunk of rows."""


@dataclass(frozen=True, eq=False, slots=True)
class LocalSampler:
    """Samples from a policy in training, which is left as it was: in its mode, with its gradients and random states."""

    policy: Policy
    end_tokens: Collection[int]
    """Tokens that end a response."""
    most_positions: int
    """Most tokens of prompt and response together."""
    cache_bytes: int = CACHE_BYTES
    rows_at_once: int | None = None
    """Most responses that are written at once; None: as many as `cache_bytes` hold."""

    def sample(self, prompts: Sequence[Prompt], n: int, params: SamplingParams, *, step: int = 0) -> list[Group]:
        """See `base.Sampler`.

        Raises:
            ModelError: a prompt fills all positions of the model, or the model cannot be computed packed.
        """
        assert n >= 1, "a group has at least one response"
        assert len({prompt.key for prompt in prompts}) == len(prompts), "every prompt has a key of its own"
        self._check(prompts)
        rules = StopRules.of(
            self.end_tokens, params.stop_ids, params.stop, params.max_new_tokens, self.policy.tokenizer
        )
        with _writing(self.policy):
            return _Rollout(self, prompts, n, params, rules, step).groups()

    def _check(self, prompts: Sequence[Prompt]) -> None:
        longest = max((len(prompt.tokens) for prompt in prompts), default=0)
        if longest >= self.most_positions:
            raise ModelError(
                given=f"a prompt of {longest:,} tokens",
                rule=f"prompt and response together fill at most the model's {self.most_positions:,} positions",
                remedy="shorten the prompt, or drop such rows",
            )
        if not self.policy.share:
            raise ModelError(
                given=f"responses of {type(self.policy.causal_lm).__name__}, which cannot share a prompt",
                rule="the sampler computes a prompt once for all its responses",
                remedy="use a decoder with ordinary attention",
            )


@contextmanager
def _writing(policy: Policy) -> Iterator[None]:
    """Inside, the model evaluates and keeps no graph; afterwards every module has its mode again."""
    modes = [(module, module.training) for module in policy.model.modules()]
    try:
        policy.model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(eq=False, slots=True)
class _Row:
    """A response that is being written."""

    prompt: int
    """Index of its prompt."""
    index: int
    """Of the response in its group."""
    most_tokens: int
    """As many as fit behind the prompt."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None


@dataclass(eq=False, slots=True)
class _Ready:
    """A prompt that was computed."""

    keys: PromptKeys
    hidden: Tensor
    """[H] of its last token."""
    open: int
    """Responses that are not finished."""


class _Rollout:
    """One call of `sample`."""

    def __init__(
        self,
        sampler: LocalSampler,
        prompts: Sequence[Prompt],
        n: int,
        params: SamplingParams,
        rules: StopRules,
        step: int,
    ) -> None:
        self.policy, self.prompts, self.n, self.params, self.rules = sampler.policy, prompts, n, params, rules
        self.step, self.device = step, sampler.policy.device
        self.head = _accumulating(sampler.policy.head)
        room = max((sampler.most_positions - len(prompt.tokens) for prompt in prompts), default=1)
        self.most_tokens = min(params.max_new_tokens, room)
        self.most_rows = min(len(prompts) * n, sampler.rows_at_once or self._rows_in(sampler.cache_bytes))
        self.waiting = deque(
            _Row(prompt=number, index=index, most_tokens=sampler.most_positions - len(prompt.tokens))
            for number, prompt in enumerate(prompts)
            for index in range(n)
        )
        self.ready: dict[int, _Ready] = {}
        self.rows: list[_Row] = []
        self.finished: list[_Row] = []
        self.responses = ResponseKeys(self.most_rows, self.most_tokens)
        self.seen: Tensor | None = None

    def groups(self) -> list[Group]:
        """Runs to the end."""
        hidden = self._admit(None)
        while hidden is not None:
            self._write(hidden)
            kept = self._leave()
            hidden = self._admit(self._forward() if kept else None)
        return self._collect()

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
        self.rows += fresh
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
        for number, keys, last in zip(numbers, prefill.prompts(), lasts.tolist(), strict=True):
            self.ready[number] = _Ready(keys, hidden[last].clone(), open=self.n)

    def _write(self, hidden: Tensor) -> None:
        """Chooses the next token of every row from the hidden states [R, H], and notes which rows end with it."""
        numbers = self._uniforms()
        size = max(1, LOGITS_BYTES // (self.head.weight.shape[0] * self.head.weight.element_size()))
        for start in range(0, len(self.rows), size):
            part = slice(start, start + size)
            temperature = self.params.scored_temperature
            probabilities, partition = all_probabilities(hidden[part], self.head, temperature=temperature)
            tokens = choose(probabilities, partition, numbers[part], self.params, self._seen(part))
            chosen = probabilities.gather(1, tokens[:, None])[:, 0].log()
            for row, token, logprob in zip(self.rows[part], tokens.tolist(), chosen.tolist(), strict=True):
                row.tokens.append(token)
                row.logprobs.append(logprob)
                row.finish = self.rules.finish(row.tokens, row.most_tokens)

    def _uniforms(self) -> Tensor:
        """[R] one number for the next token of every row."""
        keys = np.array([self.prompts[row.prompt].key for row in self.rows], dtype=np.int64)
        indices = np.array([row.index for row in self.rows], dtype=np.int64)
        places = np.array([len(row.tokens) for row in self.rows], dtype=np.int64)
        return torch.from_numpy(uniform(self.params.seed, self.step, keys, indices, places)).to(self.device)

    def _seen(self, part: slice) -> Tensor | None:
        """[rows, V] bool, tokens of prompt and response; None: nothing is penalised."""
        if self.params.repetition_penalty == 1:
            return None
        rows = self.rows[part]
        seen = torch.zeros((len(rows), self.head.weight.shape[0]), dtype=torch.bool)
        for k, row in enumerate(rows):
            seen[k, self.prompts[row.prompt].tokens.cpu()] = True
            seen[k, row.tokens] = True
        return seen.to(self.device)

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
            self.rows.pop()
            last -= 1
        return bool(self.rows)

    def _close(self, row: _Row) -> None:
        self.finished.append(row)
        prompt = self.ready[row.prompt]
        prompt.open -= 1
        if prompt.open == 0:
            del self.ready[row.prompt]

    def _forward(self) -> Tensor:
        """[R, H] the hidden states of the rows' newest tokens."""
        tokens = torch.tensor([row.tokens[-1] for row in self.rows], device=self.device)
        decoding = self._decoding()
        return self.policy.decode(tokens, decoding.positions, decoding)

    def _decoding(self) -> Decoding:
        numbers = [row.prompt for row in self.rows]
        order = sorted(range(len(numbers)), key=lambda place: numbers[place])
        counts = Counter(numbers)
        distinct = sorted(counts)
        places = [len(row.tokens) - 1 for row in self.rows]
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        return Decoding(
            responses=self.responses,
            places=torch.tensor(places, device=self.device),
            longest=max(places) + 1,
            prompts=[self.ready[number].keys for number in distinct],
            counts=[counts[number] for number in distinct],
            order=torch.tensor(order, device=self.device),
            back=back.to(self.device),
            lengths=torch.tensor([len(self.prompts[number].tokens) for number in numbers], device=self.device),
        )

    def _collect(self) -> list[Group]:
        """The groups in the order of the prompts, responses in the order of their indices."""
        rows = sorted(self.finished, key=lambda row: (row.prompt, row.index))
        return [
            Group(
                prompt=prompt.tokens,
                responses=tuple(self._response(row) for row in rows[number * self.n : (number + 1) * self.n]),
            )
            for number, prompt in enumerate(self.prompts)
        ]

    def _response(self, row: _Row) -> Response:
        size = len(row.tokens)
        return Response(
            tokens=torch.tensor(row.tokens),
            trainable=torch.ones(size, dtype=torch.bool),
            sampler_logprobs=torch.tensor(row.logprobs, dtype=accumulation_dtype(self.head.weight.dtype)),
            policy_version=torch.full((size,), self.step),
            finish=row.finish,
        )


def _accumulating(head: Head) -> Head:
    """The head in the type of accumulation, converted once for all tokens."""
    dtype = accumulation_dtype(head.weight.dtype)
    bias = None if head.bias is None else head.bias.to(dtype)
    return replace(head, weight=head.weight.to(dtype), bias=bias)
