"""Loss by plain forwards, one response at a time, for models and adapters that packing and scoring do not support.

`held_out` is faster and used by runs; where both are possible, they agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from burnish.microbatch import weights_of
from burnish.types import Group


@torch.no_grad()
def unpacked_loss(model: PreTrainedModel | PeftModel, rows: Sequence[Group]) -> float:
    """Mean negative log-likelihood of the trained tokens of all rows, by their weights, nats; the model is in
    evaluation mode."""
    device = next(iter(model.parameters())).device
    total, weight = 0.0, 0.0
    for group in rows:
        for response in group.responses:
            for tokens, own in response.rows(group.prompt):
                size = own.stop - own.start
                logits = model(input_ids=tokens[None].to(device), use_cache=False, logits_to_keep=size + 1).logits
                trained = response.trainable[own].to(device)
                scored, targets = logits[0, :-1][trained], tokens[-size:].to(device)[trained]
                losses = cross_entropy(scored.float(), targets, reduction="none").double()
                weights = weights_of(response)[own].to(device)[trained].double()
                total += float((weights * losses).sum())
                weight += float(weights.sum())
    assert weight, "rows have trained tokens"
    return total / weight
