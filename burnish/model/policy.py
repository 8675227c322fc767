"""The policy: a model that computes packed groups. What the trainer, the evaluation and (later) the sampler hold.

Stands around transformers' or peft's model, whose code is used as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.model.decoding import Decoding, Prefill
from burnish.model.head import Head, read_head
from burnish.model.scoring import CHUNK_BYTES, score
from burnish.packing import CostModel, Part, pack
from burnish.types import Group, Layout, Microbatch, Score, TokenScores


@dataclass(frozen=True, eq=False)
class Policy:
    """A causal language model over packed groups, made by `load.load_policy`."""

    model: PreTrainedModel | PeftModel
    """What is saved at the end: the model, or the adapter around it."""
    tokenizer: PreTrainedTokenizerBase
    share: bool = True
    """False: this architecture computes every prompt once per response (the probe at load found it so)."""
    chunk_bytes: int = CHUNK_BYTES
    """Memory for one chunk of logits in scoring."""
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
        """The output head; read once, since training changes its weights in place."""
        return read_head(self.causal_lm)

    def hidden(self, microbatch: Microbatch) -> Tensor:
        """[N, H], the last hidden state of every packed row."""
        return self.decode(microbatch.tokens, microbatch.layout.positions, microbatch.layout)

    def decode(self, tokens: Tensor, positions: Tensor, layout: Layout | Prefill | Decoding) -> Tensor:
        """[N, H], the last hidden states of N tokens [N] at their positions [N], who see each other by the layout."""
        decoder = self.causal_lm.get_decoder()
        output = decoder(input_ids=tokens[None], position_ids=positions[None], use_cache=False, layout=layout)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def score(
        self,
        microbatch: Microbatch,
        needs: Collection[Score],
        *,
        temperature: float = 1.0,
        coefficients: Mapping[Score, Tensor] | None = None,
    ) -> TokenScores:
        """One forward of the packed rows, and the scores of the trained tokens; see `scoring.score`."""
        return score(
            self.hidden(microbatch),
            self.head,
            microbatch,
            needs,
            temperature=temperature,
            coefficients=coefficients,
            chunk_bytes=self.chunk_bytes,
        )

    def pack(self, groups: Sequence[Group], budget: int, start: int = 0) -> list[Microbatch]:
        """The groups as this model can compute them, balanced by what they cost it; see `packing.pack`."""
        return pack(groups, budget, self.cost, share=self.share, start=start)

    @cached_property
    def cost(self) -> CostModel:
        """What a token and a pair of tokens cost this model, in FLOPs of the forward."""
        config = self.causal_lm.config.get_text_config(decoder=True)
        decoder = self.causal_lm.get_decoder()
        embedding = self.causal_lm.get_input_embeddings().weight.numel()
        head_size = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
        return CostModel(
            per_token=2.0 * (sum(p.numel() for p in decoder.parameters()) - embedding),
            per_pair=4.0 * config.num_hidden_layers * config.num_attention_heads * head_size,
            per_scored=2.0 * self.head.weight.numel(),
        )

    @cached_property
    def training_cost(self) -> CostModel:
        """What a token and a pair of tokens cost in training, in FLOPs: forward and backward.

        A matrix costs a token 2 FLOPs per weight forwards, 2 for the gradient of its input, and 2 for its own gradient
        if it is trained: 6 with full training, 4 where weights are frozen. Attention has no weights: its backward is
        twice its forward. As in arXiv 2204.02311, appendix B, what checkpointing computes again does not count; unlike
        there, attention is counted as causal, and the head for scored tokens alone. Experts count as if all were used.
        """
        weights = list(self.causal_lm.get_decoder().parameters())
        trained = sum(p.numel() for p in weights if p.requires_grad)
        frozen = sum(p.numel() for p in weights) - trained
        embedding = self.causal_lm.get_input_embeddings().weight  # a table to look up: no product
        lookup = (6.0 if embedding.requires_grad else 4.0) * embedding.numel()
        return CostModel(
            per_token=6.0 * trained + 4.0 * frozen - lookup,
            per_pair=3.0 * self.cost.per_pair,
            per_scored=(3.0 if self.head.weight.requires_grad else 2.0) * self.cost.per_scored,
        )

    def num_flops(self, groups: Sequence[Group]) -> float:
        """FLOPs of one training step on the groups, see `training_cost`; measured groups have no backward."""
        parts = groups if self.share else [part for group in groups for part in group.expanded()]
        return sum(Part(part, 0).cost(self.training_cost if part.trained else self.cost) for part in parts)

    def num_tokens(self, groups: Sequence[Group]) -> int:
        """Tokens that this model computes for the groups: shared prompts once, if it can share them."""
        parts = groups if self.share else [part for group in groups for part in group.expanded()]
        return sum(part.num_tokens for part in parts)

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter of everything that learns."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
