"""Answers to prompts by transformers' own `generate`: what chat, evaluation and looks into a run show.

Stands over model, beside `held_out`. A policy in training is borrowed and left as it was: its attention, mode, settings
and every generator of random numbers. An answer depends on its prompt, the seed and its place in the list alone, not on
what else is in the batch (up to numerical ties): choosing by  argmax(log p + Gumbel noise)  is a draw from p (Gumbel
1954), and every prompt has its own noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from burnish.errors import ModelError
from burnish.model.attention import plain_attention
from burnish.watch import quiet_transformers

PROMPTS_AT_ONCE = 16
"""Prompts of one batch; bounds the memory of the cache, not the result."""
_UNFINISHED = "\ufffd"
"""What a decoder writes for the first bytes of a character whose other bytes are not there yet."""

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Example: ``Sampling(temperature=0.7, top_p=0.9)``."""

    max_new_tokens: int = 256
    """Most tokens of an answer."""
    temperature: float = 0.0
    """Divisor of the logits; 0: always the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability; 1: all."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    seed: int = 0
    """Of the choice; another seed gives other answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wrote."""

    tokens: tuple[int, ...]
    """Token ids, without the end token."""
    ended: bool
    """Whether it ended itself; False: it was cut at the most tokens, or at the model's last position."""


def answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Ids],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    end_tokens: Collection[int],
) -> list[str]:
    """The text of an answer to each prompt.

    Args:
        model: a model, an adapter around one, or the model of a `Policy` in training, which is left as it was.
        tokenizer: for padding and for the text.
        prompts: token ids, as they are: nothing is added.
        max_new_tokens: most tokens of an answer.
        temperature: divisor of the logits; 0: always the likeliest token.
        top_p: share of probability that is kept; 1: all.
        top_k: number of tokens that are kept; 0: all.
        seed: of the choice.
        end_tokens: ids that end an answer; they are not in its text.

    Raises:
        ModelError: a prompt that fills all positions of the model.
    """
    sampling = Sampling(max_new_tokens, temperature, top_p, top_k, seed)
    written = write(model, prompts, sampling, end_tokens, padding=padding_of(tokenizer))
    return [text_of(tokenizer, answer) for answer in written]


def text_of(tokenizer: PreTrainedTokenizerBase, answer: Answer) -> str:
    """The answer as people read it, without control tokens."""
    return str(tokenizer.decode(list(answer.tokens), skip_special_tokens=True))


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Some token for places that nobody sees."""
    return next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)


def write(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Ids],
    sampling: Sampling,
    end_tokens: Collection[int],
    *,
    padding: int = 0,
) -> list[Answer]:
    """As `answers`, in tokens. Prompts of similar length share a batch."""
    causal_lm = model.get_base_model() if isinstance(model, PeftModel) else model
    positions = positions_of(causal_lm)
    for prompt in prompts:
        _refuse_too_long(len(prompt), positions)
    written: dict[int, Answer] = {}
    with borrowed(causal_lm):
        for batch in _batches([len(prompt) for prompt in prompts], positions - sampling.max_new_tokens):
            room = min(sampling.max_new_tokens, positions - len(prompts[batch[0]]))
            chosen = replace(sampling, max_new_tokens=room)
            rows = _continue(causal_lm, [prompts[i] for i in batch], batch, chosen, end_tokens, padding)
            written |= {index: _answer(row, end_tokens) for index, row in zip(batch, rows, strict=True)}
    return [written[index] for index in range(len(prompts))]


def stream(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Ids,
    sampling: Sampling,
    end_tokens: Collection[int],
    told: Callable[[str], None],
) -> Answer:
    """The answer to one prompt, told in pieces of text while it is written. Ctrl+C is the caller's to catch.

    Joined, the pieces are the text of the answer. The same prompt and sampling give the same as `write`.
    """
    causal_lm = model.get_base_model() if isinstance(model, PeftModel) else model
    positions = positions_of(causal_lm)
    _refuse_too_long(len(prompt), positions)
    pieces = _Pieces(tokenizer, told, end_tokens)
    chosen = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, positions - len(prompt)))
    with borrowed(causal_lm):
        (row,) = _continue(causal_lm, [prompt], [0], chosen, end_tokens, padding_of(tokenizer), pieces)
    return _answer(row, end_tokens)


def positions_of(model: PreTrainedModel) -> int:
    """How many tokens prompt and answer may have together; without a limit, more than anybody has."""
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
        torch.use_deterministic_algorithms(False)  # top-p sums in an order of its own on CUDA
        yield


def _batches(lengths: Sequence[int], roomy: int) -> Iterator[list[int]]:
    """Indices of prompts, those of similar length together; longer ones than `roomy` alone, cut each by itself."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    wide = [index for index in order if lengths[index] <= roomy]
    for start in range(0, len(wide), PROMPTS_AT_ONCE):
        yield wide[start : start + PROMPTS_AT_ONCE]
    yield from ([index] for index in order if lengths[index] > roomy)


def _restore(modes: Sequence[tuple[torch.nn.Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def _continue(
    model: PreTrainedModel,
    prompts: Sequence[Ids],
    numbers: Sequence[int],
    sampling: Sampling,
    end_tokens: Collection[int],
    padding: int,
    streamer: BaseStreamer | None = None,
) -> list[list[int]]:
    """The new tokens of each prompt, with whatever follows the end of the shorter ones."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[padding] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(end_tokens) or None,
        pad_token_id=padding,
    )
    output = model.generate(
        input_ids=tokens.to(model.device),
        attention_mask=seen.to(model.device),
        generation_config=settings,
        logits_processor=_choice(sampling, numbers),
        streamer=streamer,
    )
    rows: list[list[int]] = output[:, width:].tolist()
    return rows


def _choice(sampling: Sampling, numbers: Sequence[int]) -> LogitsProcessorList:
    chosen = LogitsProcessorList()
    if sampling.temperature == 0:
        return chosen
    chosen.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chosen.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chosen.append(TopPLogitsWarper(sampling.top_p))
    chosen.append(_Noise(sampling.seed, numbers))
    return chosen


class _Noise(LogitsProcessor):
    """Adds Gumbel noise, so that the largest sum is a draw; every prompt has its own noise."""

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        seeds = [np.random.SeedSequence([seed, number]).generate_state(1)[0] for number in numbers]
        self._generators = [torch.Generator().manual_seed(int(each)) for each in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        size = scores.shape[-1]
        noise = [-torch.empty(size).exponential_(generator=generator).log() for generator in self._generators]
        return scores + torch.stack(noise).to(scores.device)


class _Pieces(BaseStreamer):
    """Tells the text of tokens as soon as its characters are whole.

    A token is decoded with those of the piece before it: alone, many tokenizers would drop the space in front of it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, told: Callable[[str], None], end_tokens: Collection[int]
    ) -> None:
        self._tokenizer, self._told, self._ends = tokenizer, told, frozenset(end_tokens)
        self._tokens: list[int] = []
        self._start = self._read = 0
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        if self._is_prompt:
            self._is_prompt = False
            return
        self._tokens += [token for token in value.reshape(-1).tolist() if token not in self._ends]
        self._tell(last=False)

    def end(self) -> None:
        self._tell(last=True)

    def _tell(self, *, last: bool) -> None:
        before, now = self._text(self._start, self._read), self._text(self._start, len(self._tokens))
        if len(now) > len(before) and (last or not now.endswith(_UNFINISHED)):
            self._start, self._read = self._read, len(self._tokens)
            self._told(now[len(before) :])

    def _text(self, start: int, stop: int) -> str:
        return str(self._tokenizer.decode(self._tokens[start:stop], skip_special_tokens=True))


def _answer(row: Ids, end_tokens: Collection[int]) -> Answer:
    """The row up to its first end token."""
    end = next((at for at, token in enumerate(row) if token in end_tokens), None)
    return Answer(tuple(row[:end]), ended=end is not None)


def _refuse_too_long(length: int, positions: int) -> None:
    if length == 0:
        raise ModelError(
            given="a prompt without a token",
            rule="a model continues something",
            remedy="give a prompt that says something",
        )
    if length >= positions:
        raise ModelError(
            given=f"a prompt of {length:,} tokens",
            rule=f"prompt and answer together fill at most the model's {positions:,} positions",
            remedy="shorten the prompt",
        )
