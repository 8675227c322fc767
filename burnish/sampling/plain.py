"""Writing responses with any causal model, by transformers' own `generate`: also with those that cannot share prompts.

Beside `local`, which is several times faster where a model shares prompts. Tokens are chosen by the same rules from the
same uniform numbers, and responses end by the same rules, so where both can write they write the same (up to numerical
ties). Rows of one forward have prompts of one length: nothing is padded, which a state or a convolution over time would
see. Every response computes its prompt again, and a row that has ended waits for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from burnish.model.attention import plain_attention
from burnish.model.linear import packed
from burnish.sampling.base import Prompt, StreamListener, check_prompts
from burnish.sampling.params import SamplingParams
from burnish.sampling.sequences import ActiveSequence, SamplingJob
from burnish.sampling.stopping import StopRules
from burnish.sampling.token_history import TokenHistory
from burnish.types import Group
from burnish.watch.quiet import quiet_transformers

ROWS_AT_ONCE = 16
"""Default rows of one forward; bounds the memory of the cache, not the result."""


@dataclass(frozen=True, eq=False, slots=True)
class PlainSampler:
    """Samples from a model, which is left as it was: its attention, mode and settings, and all random states."""

    model: PreTrainedModel | PeftModel
    """Also the model of a policy in training."""
    tokenizer: PreTrainedTokenizerBase | None
    """Needed for texts that end a response."""
    end_tokens: Collection[int]
    """Tokens that end a response."""
    most_positions: int
    """Most tokens of prompt and response together."""
    rows_at_once: int = ROWS_AT_ONCE

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        params: SamplingParams,
        *,
        step: int = 0,
        watcher: StreamListener | None = None,
    ) -> list[Group]:
        """See `base.Sampler`; the watcher is told while responses are written. Log-probabilities are of the logits as
        the model gives them, so in bfloat16 they are those of rounded logits.

        Raises:
            ModelError: a prompt fills all positions of the model.
        """
        assert n >= 1, "a group has at least one response"
        check_prompts(prompts, self.most_positions)
        rules = StopRules.of(self.end_tokens, params.stop_ids, params.stop, params.max_new_tokens, self.tokenizer)
        writing = SamplingJob(prompts, n, params, rules, step, watcher)
        causal_lm = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        with borrowed(causal_lm), packed(causal_lm):
            for rows in self._batches(prompts, n):
                _continue(causal_lm, rows, writing)
        return writing.groups()

    def _batches(self, prompts: Sequence[Prompt], n: int) -> Iterator[list[ActiveSequence]]:
        """Rows whose prompts have one length, those of the first prompts first."""
        lengths = [len(prompt.tokens) for prompt in prompts]
        for length in dict.fromkeys(lengths):
            rows = [
                ActiveSequence(place, index, self.most_positions - length)
                for place, each in enumerate(lengths)
                if each == length
                for index in range(n)
            ]
            for start in range(0, len(rows), self.rows_at_once):
                yield rows[start : start + self.rows_at_once]


def positions_of(model: PreTrainedModel) -> int:
    """How many tokens prompt and response may have together; without a limit, more than anybody has."""
    config = model.config.get_text_config(decoder=True)
    name = config.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    positions = config.to_dict().get(name)
    return positions if isinstance(positions, int) else 2**31


@contextmanager
def borrowed(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is a plain one that only evaluates; afterwards it is as it was, and so is torch."""
    modes = [(module, module.training) for module in model.modules()]
    settings, deterministic = model.generation_config, torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        stack.callback(_restore, modes)
        stack.callback(setattr, model, "generation_config", settings)
        stack.callback(torch.use_deterministic_algorithms, deterministic, warn_only=warn_only)
        stack.enter_context(quiet_transformers())
        stack.enter_context(plain_attention(model))
        stack.enter_context(torch.no_grad())
        model.eval()
        model.generation_config = GenerationConfig()  # else what the checkpoint's leaves open would be filled in
        torch.use_deterministic_algorithms(False)  # a running sum in an order of its own on CUDA
        yield


def _restore(modes: Sequence[tuple[torch.nn.Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def _continue(model: PreTrainedModel, rows: Sequence[ActiveSequence], writing: SamplingJob) -> None:
    """Writes the responses of rows whose prompts have one length."""
    prompts = torch.stack([writing.prompts[row.prompt].tokens for row in rows]).to(model.device)
    most = min(writing.params.max_new_tokens, rows[0].most_tokens)
    model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        generation_config=GenerationConfig(max_new_tokens=most, do_sample=False, pad_token_id=0),
        logits_processor=LogitsProcessorList([_Choice(rows, writing, prompts)]),
        stopping_criteria=StoppingCriteriaList([_Ends(rows)]),
    )


class _Choice(LogitsProcessor):
    """Chooses the tokens of all rows that go on, and leaves them alone as possible."""

    def __init__(self, rows: Sequence[ActiveSequence], writing: SamplingJob, prompts: Tensor) -> None:
        self._rows, self._writing, self._prompts = rows, writing, prompts
        self._seen: TokenHistory | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        going = [place for place, row in enumerate(self._rows) if row.finish is None]
        places = torch.tensor(going, device=scores.device)
        logits = scores[places] / self._writing.params.scored_temperature
        rows, seen = [self._rows[place] for place in going], self._seen_by(places, input_ids, scores)
        tokens = self._writing.choose(rows, logits.softmax(dim=-1), logits.logsumexp(dim=-1), seen)
        for row in rows:
            if row.finish is not None:
                self._writing.close(row, scores.dtype)
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, 0] = 0.0  # of rows that have ended, whatever
        chosen[places] = -torch.inf
        chosen[places, torch.tensor(tokens, device=scores.device)] = 0.0
        return chosen

    def _seen_by(self, places: Tensor, input_ids: Tensor, scores: Tensor) -> Tensor | None:
        """[rows, V] what the rows at these places have; None: nothing is penalised."""
        if self._writing.params.repetition_penalty == 1:
            return None
        if self._seen is None:
            self._seen = TokenHistory(len(self._rows), scores.shape[1], scores.device)
            for place, prompt in enumerate(self._prompts):
                self._seen.begin(place, prompt)
        else:
            self._seen.add(0, input_ids[:, -1])
        return self._seen.of(slice(0, len(self._rows)))[places]


class _Ends(StoppingCriteria):
    """Which rows have ended."""

    def __init__(self, rows: Sequence[ActiveSequence]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return torch.tensor([row.finish is not None for row in self._rows], device=input_ids.device)
