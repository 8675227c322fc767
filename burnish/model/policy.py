"""The policy: a model that computes packed groups. What the trainer, the evaluation and (later) the sampler hold.

Stands around transformers' or peft's model, whose code is used as it is. A reward model is held in the same way: it
has a value head in the place of the one over the vocabulary, and gives values instead of log-probabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.model.cost import forward_cost, training_cost
from burnish.model.decoder import decoder_of
from burnish.model.decoding import Decoding, Prefill
from burnish.model.head import Head, read_head
from burnish.model.noise import perturbed
from burnish.model.route import Route
from burnish.model.scoring import score
from burnish.model.value_head import ValueHead, is_reward_model, read_value_head, values
from burnish.packing import CostModel, Part, pack
from burnish.types import Group, Layout, Microbatch, Score, TokenScores


@dataclass(frozen=True, eq=False)
class Model:
    """A causal language model (or a reward model) over packed groups, made by `load.load_policy`."""

    model: PreTrainedModel | PeftModel
    """What is saved at the end: the model, or the adapter around it."""
    tokenizer: PreTrainedTokenizerBase
    route: Route = Route.SHARED
    """How this model computes groups; the probe at load found it."""
    chunk_bytes: int | None = None
    """Memory for one chunk of logits in scoring; None: what suits the device."""
    temperature: float = 1.0
    """Logits are divided by it: that of sampling, where it learns from its own samples."""
    notes: tuple[str, ...] = ()
    """What loading changed about the checkpoint, in lines for people."""

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model inside, with adapter layers in place if there are any."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        return self.causal_lm.device

    @cached_property
    def head(self) -> Head:
        """The output head; read once, since training changes its weights in place. A reward model has none."""
        return read_head(self.causal_lm)

    @cached_property
    def value_head(self) -> ValueHead:
        """What a reward model has in the place of `head`; read once."""
        return read_value_head(self.causal_lm)

    @property
    def is_reward_model(self) -> bool:
        """Whether it is a reward model: of the scores, it gives the value alone."""
        return is_reward_model(self.causal_lm)

    @property
    def share(self) -> bool:
        """Whether a prompt is computed once for all its responses."""
        return self.route is Route.SHARED

    def hidden(self, microbatch: Microbatch) -> Tensor:
        """[N, H], the last hidden state of every packed row."""
        layout = microbatch.layout
        with perturbed(self.causal_lm.get_input_embeddings(), microbatch):
            if self.route is not Route.ALONE:
                return self.decode(microbatch.tokens, layout.positions, layout)
            assert all(segment.context_length == 0 for segment in layout.segments), "sequences alone share no prompt"
            sequences = microbatch.tokens.split([segment.length for segment in layout.segments])
            return torch.cat([self._decode(tokens) for tokens in sequences])

    def decode(self, tokens: Tensor, positions: Tensor, layout: Layout | Prefill | Decoding) -> Tensor:
        """[N, H], the last hidden states of N tokens [N] at their positions [N], who see each other by the layout."""
        return self._decode(tokens, position_ids=positions[None], layout=layout)

    def _decode(self, tokens: Tensor, **others: Any) -> Tensor:
        """[N, H] of one row of N tokens."""
        output = decoder_of(self.causal_lm)(input_ids=tokens[None], use_cache=False, **others)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def score(
        self,
        microbatch: Microbatch,
        needs: Collection[Score],
        *,
        coefficients: Mapping[Score, Tensor] | None = None,
    ) -> TokenScores:
        """One forward of the packed rows, and the trained tokens' scores; see `scoring.score`, `value_head.values`."""
        hidden = self.hidden(microbatch)
        of_tokens = [kind for kind in needs if kind is not Score.VALUE]
        found = TokenScores()
        if of_tokens:
            found = score(
                hidden,
                self.head,
                microbatch,
                of_tokens,
                temperature=self.temperature,
                coefficients=coefficients,
                chunk_bytes=self.chunk_bytes,
            )
        return replace(found, value=values(hidden, self.value_head, microbatch)) if Score.VALUE in needs else found

    def pack(self, groups: Sequence[Group], budget: int, start: int = 0) -> list[Microbatch]:
        """The groups as this model can compute them, balanced by what they cost it; see `packing.pack`."""
        return pack(groups, budget, self.cost, share=self.share, start=start)

    @cached_property
    def cost(self) -> CostModel:
        """What a token and a pair of tokens cost this model, in FLOPs of the forward."""
        return forward_cost(self.causal_lm, self.value_head if self.is_reward_model else self.head)

    @cached_property
    def training_cost(self) -> CostModel:
        """What a token and a pair of tokens cost in training, in FLOPs: forward and backward; see `cost`."""
        return training_cost(self.causal_lm, self.value_head if self.is_reward_model else self.head)

    def num_flops(self, groups: Sequence[Group]) -> float:
        """FLOPs of one training step on the groups, see `training_cost`; measured groups have no backward."""
        parts = groups if self.share else [part for group in groups for part in group.expanded()]
        return sum(Part(part, 0).cost(self.cost if part.scored_only else self.training_cost) for part in parts)

    def num_tokens(self, groups: Sequence[Group]) -> int:
        """Tokens that this model computes for the groups: shared prompts once, if it can share them."""
        parts = groups if self.share else [part for group in groups for part in group.expanded()]
        return sum(part.num_tokens for part in parts)

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter of everything that learns."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
