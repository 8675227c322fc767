"""Model over packed groups: the interface of trainer, evaluation and sampler to a language model or reward model.

Wraps a model of transformers or peft, whose code is used unchanged. A reward model has a value head in place of the
output head, and gives values instead of log-probabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.layout import Layout
from burnish.microbatch import CostModel
from burnish.model.adapters.switch import ActiveAdapters, active_with, adapter_parameters
from burnish.model.cost import forward_cost, training_cost
from burnish.model.decoder import decoder_of
from burnish.model.decoding import Decoding, Prefill
from burnish.model.divergence import Comparison
from burnish.model.head import Head, read_head
from burnish.model.noise import perturbed
from burnish.model.route import Route
from burnish.model.scoring import score
from burnish.model.value_head import (
    ValueHead,
    bootstrap_values,
    is_reward_model,
    read_value_head,
    state_values,
    values,
)
from burnish.model.vision import Vision
from burnish.packing import pack, whole_parts
from burnish.parallel.part import own_tensor
from burnish.parallel.placement import PLACED, Placement
from burnish.types import VALUE_SCORES, Group, MediaRef, Microbatch, PlacedImage, Score, TokenScores


@dataclass(frozen=True, eq=False)
class Model:
    """A causal language model (or a reward model) over packed groups, made by `load.load_policy`."""

    model: PreTrainedModel | PeftModel
    """The model that is saved at the end: transformers' own, or peft's with its adapter."""
    tokenizer: PreTrainedTokenizerBase
    route: Route = Route.SHARED
    """How this model computes groups, as the probe at load determined."""
    chunk_bytes: int | None = None
    """Memory for one chunk of logits in scoring; None: the device's default."""
    temperature: float = 1.0
    """Divisor of the logits: the sampling temperature in reinforcement learning."""
    notes: tuple[str, ...] = ()
    """Log lines about what loading changed."""
    adapter: str | None = None
    """The adapter that computes and trains, of several on one base; None: those that are active in the model."""
    comparison: Comparison | None = None
    """With a teacher, for `Score.DIVERGENCE`; None: there is none."""
    critic_head: nn.Linear | None = None
    """A value head of the adapter's own, [1, H]; None: values are those of a reward model, if it is one."""
    vision: Vision | None = None
    """Images of prompts; None: prompts are text."""
    placement: Placement = PLACED
    """Where its weights are, of several processes that divide them."""

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model, including adapter layers if there are any."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        return self.placement.device or self.causal_lm.device

    @property
    def head(self) -> Head:
        """The output head. A reward model has none. Weights that are gathered to compute are whole in a computation
        alone, see `Placement.compute`."""
        return self._read_head() if self.placement.gathers else self._kept_head

    @cached_property
    def _kept_head(self) -> Head:
        """The output head, read once, since training changes its weights in place."""
        return self._read_head()

    def _read_head(self) -> Head:
        with self.adapter_active():
            return replace(read_head(self.causal_lm), columns=self.placement.columns)

    @property
    def value_head(self) -> ValueHead:
        """The value head: the adapter's own, or that of a reward model in place of `head`."""
        return self._read_value_head() if self.placement.gathers else self._kept_value_head

    @cached_property
    def _kept_value_head(self) -> ValueHead:
        return self._read_value_head()

    def _read_value_head(self) -> ValueHead:
        if self.critic_head is not None:
            return ValueHead.of(self.critic_head)
        with self.adapter_active():
            return read_value_head(self.causal_lm)

    @property
    def is_reward_model(self) -> bool:
        """True for a reward model, which gives values and no log-probabilities."""
        return is_reward_model(self.causal_lm)

    @property
    def output_head(self) -> Head | ValueHead:
        """The head that scores tokens: of values if there is one."""
        return self.value_head if self.critic_head is not None or self.is_reward_model else self.head

    def adapter_active(self) -> AbstractContextManager[None]:
        """Context manager in which this model's adapter is active, see `adapter`."""
        if self.adapter is None:
            return nullcontext()
        return ActiveAdapters(self.model, active_with(self.model, self.adapter))

    @property
    def share(self) -> bool:
        """Whether a prompt is computed once for all its responses."""
        return self.route is Route.SHARED

    def hidden(self, microbatch: Microbatch) -> Tensor:
        """[N, H], the last hidden state of every packed position."""
        layout = microbatch.layout
        with perturbed(self.causal_lm.get_input_embeddings(), microbatch):
            if self.route is not Route.UNPACKED:
                return self.decode(microbatch.tokens, layout.positions, layout, microbatch.media)
            assert not microbatch.media, "families with images are computed packed"
            assert all(segment.context_length == 0 for segment in layout.segments), "unpacked sequences share no prompt"
            sequences = microbatch.tokens.split([segment.length for segment in layout.segments])
            return torch.cat([self._decode(input_ids=tokens[None]) for tokens in sequences])

    def decode(
        self, tokens: Tensor, positions: Tensor, layout: Layout | Prefill | Decoding, media: Sequence[PlacedImage] = ()
    ) -> Tensor:
        """[N, H], the last hidden states of N tokens [N] at positions [N], which attend to each other by the layout.

        Args:
            tokens: ids.
            positions: for the rotary embedding.
            layout: visibility.
            media: images among the tokens; those of microbatches and prefills.
        """
        if not media and (self.vision is None or not self.placement.gathers):
            return self._decode(input_ids=tokens[None], position_ids=positions[None], layout=layout)
        embedded = self._embedded(tokens, media)
        if not media:
            return self._decode(inputs_embeds=embedded[None], position_ids=positions[None], layout=layout)
        assert self.vision is not None, "a model that gets images has a vision tower"
        assert not isinstance(layout, Decoding), "images are in prompts"
        bare = layout.layout if isinstance(layout, Prefill) else layout
        positions, bare = self.vision.positions(self.causal_lm, bare, media)
        shown = replace(layout, layout=bare) if isinstance(layout, Prefill) else bare
        position_ids = positions[None] if positions.dim() == 1 else positions[:, None]
        return self._decode(inputs_embeds=embedded[None], position_ids=position_ids, layout=shown)

    def _embedded(self, tokens: Tensor, media: Sequence[PlacedImage]) -> Tensor:
        """[N, H], embeddings of tokens and images. If weights are gathered they always require a gradient, since FSDP2
        orders its sums by that, and another process may have no image."""
        with self.adapter_active():
            if media:
                assert self.vision is not None, "a model that gets images has a vision tower"
                embedded = self.vision.embeddings(self.causal_lm, tokens, media)
            else:
                embedded = self.causal_lm.get_input_embeddings()(tokens)
        if self.placement.gathers and torch.is_grad_enabled() and not embedded.requires_grad:
            embedded.requires_grad_()
        return embedded

    def position_shift(self, prompt: Tensor, media: Sequence[MediaRef]) -> int:
        """What the positions of a response have more than their indices, after a prompt [P] with images."""
        return 0 if self.vision is None or not media else self.vision.shift(self.causal_lm, prompt, media)

    def _decode(self, **arguments: Any) -> Tensor:
        """[N, H], the last hidden states of one row of N tokens."""
        with self.adapter_active():
            output = decoder_of(self.causal_lm)(use_cache=False, **arguments)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def score(
        self,
        microbatch: Microbatch,
        needs: Collection[Score],
        *,
        coefficients: Mapping[Score, Tensor] | None = None,
    ) -> TokenScores:
        """Scores of the trained tokens, by one forward; see `scoring.score`, and `value_head` for values."""

        def work() -> dict[str, Tensor]:
            scores = self._score(microbatch, needs, coefficients)
            found = {field.name: getattr(scores, field.name) for field in fields(scores)}
            return {name: value for name, value in found.items() if value is not None}

        return TokenScores(**self.placement.compute(work))

    def _score(
        self, microbatch: Microbatch, needs: Collection[Score], coefficients: Mapping[Score, Tensor] | None
    ) -> TokenScores:
        hidden = self.hidden(microbatch)
        token_scores = [kind for kind in needs if kind not in VALUE_SCORES]
        scores = TokenScores()
        if token_scores:
            scores = score(
                hidden,
                self.head,
                microbatch,
                token_scores,
                temperature=self.temperature,
                coefficients=coefficients,
                chunk_bytes=self.chunk_bytes,
                comparison=self.comparison,
            )
        if Score.VALUE in needs:
            scores = replace(scores, value=values(hidden, self.value_head, microbatch))
        if Score.STATE_VALUE in needs:
            scores = replace(
                scores,
                state_value=state_values(hidden, self.value_head, microbatch),
                bootstrap_value=bootstrap_values(hidden, self.value_head, microbatch),
            )
        return scores

    def pack(self, groups: Sequence[Group], budget: int, start: int = 0, ranks: int = 1) -> list[Microbatch]:
        """Packs the groups for this model's route, balanced by their cost; see `packing.pack`. Their images are decoded
        from now on, in the order of the microbatches."""
        microbatches = pack(groups, budget, self.cost, share=self.share, start=start, ranks=ranks)
        if self.vision is not None:
            self.vision.prepare(image.medium for microbatch in microbatches for image in microbatch.media)
        return microbatches

    @cached_property
    def cost(self) -> CostModel:
        """FLOPs of the forward per token and per pair of tokens."""
        return forward_cost(self.causal_lm, self.output_head, self._unused)

    @cached_property
    def training_cost(self) -> CostModel:
        """FLOPs of forward and backward per token and per pair of tokens; see `cost.training_cost`."""
        return training_cost(self.causal_lm, self.output_head, self._unused)

    def num_flops(self, groups: Sequence[Group]) -> float:
        """FLOPs of one training step on the groups, see `training_cost`; groups that are only scored have no
        backward."""
        parts = whole_parts(groups, self.share)
        return sum(part.cost(self.cost if part.group.scored_only else self.training_cost) for part in parts)

    def num_tokens(self, groups: Sequence[Group]) -> int:
        """Tokens that this model computes for the groups; shared ones count once if the route shares them."""
        return sum(part.num_tokens for part in whole_parts(groups, self.share))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter of every weight, of all adapters on the base."""
        yield from self.model.named_parameters()
        if self.critic_head is not None:
            yield from ((f"critic_head.{name}", p) for name, p in self.critic_head.named_parameters())

    def trained_pieces(self) -> Iterator[tuple[str, Tensor]]:
        """Name and numbers of every trained weight that are on this process, in its memory."""
        return ((name, own_tensor(parameter)) for name, parameter in self.trained_parameters())

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter of every trained weight; of several adapters on the base, those of this model's own."""
        unused = self._unused
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad and id(p) not in unused)

    @property
    def _unused(self) -> frozenset[int]:
        """Ids of the parameters of other adapters on the same base."""
        if not isinstance(self.model, PeftModel):
            return frozenset()
        active = self.model.active_adapters if self.adapter is None else active_with(self.model, self.adapter)
        others = [name for name in self.model.peft_config if name not in active]
        if not others:  # as in most models: spares a walk over all layers
            return frozenset()
        return frozenset(id(parameter) for parameter in adapter_parameters(self.model, others))
