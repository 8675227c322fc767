"""Plain sampler: generates responses with any causal model by transformers' own `generate`.

`local` is several times faster for models that share prompts. Both choose tokens by the same rules from the same
uniform numbers and end responses by the same rules, so they generate the same responses (up to numerical ties).
Sequences of one forward have prompts of one length: nothing is padded, since padding would reach a recurrent state or a
convolution over time. Every response computes its prompt again, and a finished sequence waits for the others.
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
from burnish.sampling.base import SampleRequest, StreamListener, check_requests, refuse_images
from burnish.sampling.in_process import InProcessSampler
from burnish.sampling.params import SamplingParams
from burnish.sampling.sequences import ActiveSequence, SamplingJob
from burnish.sampling.stopping import StopRules
from burnish.sampling.token_history import TokenHistory
from burnish.types import Group
from burnish.watch.quiet import quiet_transformers

MAX_SEQUENCES = 16
"""Default number of sequences of one forward; limits the memory of the cache, and does not change the result."""


@dataclass(eq=False)
class PlainSampler(InProcessSampler):
    """Sampler by `generate`. The model's attention, mode and settings, and all random states, are restored
    afterwards."""

    model: PreTrainedModel | PeftModel
    """The model; it may be in training."""
    tokenizer: PreTrainedTokenizerBase | None
    """Needed for stop texts; None: there are none."""
    end_tokens: Collection[int]
    """Tokens that end a response."""
    max_positions: int
    """Maximum tokens of prompt and response together."""
    max_sequences: int = MAX_SEQUENCES

    @property
    def generator(self) -> PreTrainedModel | PeftModel:
        return self.model

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

        Log-probabilities are of the model's own logits, which are rounded in bfloat16.

        Raises:
            ModelError: a prompt fills all positions of the model.
        """
        assert n >= 1, "a group has at least one response"
        check_requests(requests, self.max_positions)
        refuse_images(requests)
        rules = StopRules.of(self.end_tokens, params.stop_ids, params.stop, params.max_new_tokens, self.tokenizer)
        job = SamplingJob(requests, n, params, rules, step=step, version=self.version, listener=listener)
        causal_lm = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        with evaluating(causal_lm), packed(causal_lm):
            for sequences in self._batches(requests, n):
                _generate(causal_lm, sequences, job)
        return job.groups()

    def _batches(self, requests: Sequence[SampleRequest], n: int) -> Iterator[list[ActiveSequence]]:
        """Sequences whose prompts have one length, in the order of the requests."""
        lengths = [len(request.tokens) for request in requests]
        for length in dict.fromkeys(lengths):
            sequences = [
                ActiveSequence(place, index, self.max_positions - length)
                for place, prompt_length in enumerate(lengths)
                if prompt_length == length
                for index in range(n)
            ]
            for start in range(0, len(sequences), self.max_sequences):
                yield sequences[start : start + self.max_sequences]


def positions_of(model: PreTrainedModel) -> int:
    """Maximum tokens of prompt and response together; 2³¹ for a model without a limit."""
    config = model.config.get_text_config(decoder=True)
    name = config.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    positions = config.to_dict().get(name)
    return positions if isinstance(positions, int) else 2**31


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Context manager with the plain model in evaluation mode; afterwards model and torch settings are restored."""
    modes = [(module, module.training) for module in model.modules()]
    settings, deterministic = model.generation_config, torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        stack.callback(_restore_modes, modes)
        stack.callback(setattr, model, "generation_config", settings)
        stack.callback(torch.use_deterministic_algorithms, deterministic, warn_only=warn_only)
        stack.enter_context(quiet_transformers())
        stack.enter_context(plain_attention(model))
        stack.enter_context(torch.no_grad())
        model.eval()
        model.generation_config = GenerationConfig()  # `generate` fills unset settings from the model's own
        torch.use_deterministic_algorithms(False)  # CUDA's cumulative sum has no deterministic algorithm
        yield


def _restore_modes(modes: Sequence[tuple[torch.nn.Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def _generate(model: PreTrainedModel, sequences: Sequence[ActiveSequence], job: SamplingJob) -> None:
    """Generates the responses of sequences whose prompts have one length."""
    prompts = torch.stack([job.requests[sequence.request].tokens for sequence in sequences]).to(model.device)
    max_tokens = min(job.params.max_new_tokens, sequences[0].max_tokens)
    model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        generation_config=GenerationConfig(max_new_tokens=max_tokens, do_sample=False, pad_token_id=0),
        logits_processor=LogitsProcessorList([_Choice(sequences, job, prompts)]),
        stopping_criteria=StoppingCriteriaList([_Finished(sequences)]),
    )


class _Choice(LogitsProcessor):
    """Chooses the tokens of all unfinished sequences, and masks all other tokens."""

    def __init__(self, sequences: Sequence[ActiveSequence], job: SamplingJob, prompts: Tensor) -> None:
        self._sequences, self._job, self._prompts = sequences, job, prompts
        self._seen: TokenHistory | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        unfinished = [place for place, sequence in enumerate(self._sequences) if sequence.finish is None]
        places = torch.tensor(unfinished, device=scores.device)
        logits = scores[places] / self._job.params.scored_temperature
        sequences, seen = [self._sequences[place] for place in unfinished], self._seen_by(places, input_ids, scores)
        tokens = self._job.choose(sequences, logits.softmax(dim=-1), logits.logsumexp(dim=-1), seen)
        for sequence in sequences:
            if sequence.finish is not None:
                self._job.close(sequence, scores.dtype)
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, 0] = 0.0  # finished sequences get token 0, which is ignored
        chosen[places] = -torch.inf
        chosen[places, torch.tensor(tokens, device=scores.device)] = 0.0
        return chosen

    def _seen_by(self, places: Tensor, input_ids: Tensor, scores: Tensor) -> Tensor | None:
        """[R, V] tokens of the sequences at these places; None: there is no penalty."""
        if self._job.params.repetition_penalty == 1:
            return None
        if self._seen is None:
            self._seen = TokenHistory(len(self._sequences), scores.shape[1], scores.device)
            for place, prompt in enumerate(self._prompts):
                self._seen.begin(place, prompt)
        else:
            self._seen.add(0, input_ids[:, -1])
        return self._seen.of(slice(0, len(self._sequences)))[places]


class _Finished(StoppingCriteria):
    """Tells `generate` which sequences are finished."""

    def __init__(self, sequences: Sequence[ActiveSequence]) -> None:
        self._sequences = sequences

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return torch.tensor([sequence.finish is not None for sequence in self._sequences], device=input_ids.device)
