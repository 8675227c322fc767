"""What of a `Model` several processes can divide, see `parallel.divisible`."""

from __future__ import annotations

import math

from torch import nn

from burnish.model.decoder import decoder_layers, decoder_of
from burnish.model.policy import Model
from burnish.parallel.divisible import Divisible


def divisible_of(model: Model, *, cut_head: bool) -> Divisible:
    """The parts of a model that can be divided.

    Args:
        model: the model, with its adapters.
        cut_head: whether tensor parallelism may cut the output head by tokens: no teacher is compared with it.
    """
    causal_lm = model.causal_lm
    head = None if model.is_reward_model or not cut_head else causal_lm.get_output_embeddings()
    embedding = causal_lm.get_input_embeddings()
    plain = type(embedding).__module__.startswith("transformers.") or type(embedding) is nn.Embedding
    is_linear = isinstance(head, nn.Linear) and type(head).__module__.split(".")[0] != "peft"
    config = causal_lm.config.get_text_config(decoder=True)
    attention = getattr(config, "num_attention_heads", None) or 1  # a state-space model has none
    heads = [attention, getattr(config, "num_key_value_heads", None) or attention]
    return Divisible(
        model=model.model,
        root=causal_lm,
        decoder=decoder_of(causal_lm),
        layers=decoder_layers(causal_lm),
        plan=config.base_model_tp_plan or {},
        heads=math.gcd(*heads),
        head=head if is_linear and plain else None,
        embedding=embedding,
    )
