"""Groups with images for small models, and what the plain model computes for their sequences."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.model.vision import Vision
from burnish.types import Group, MediaRef, Response
from burnish.vision.processing import ImageProcessing
from tests.families import without_rounding
from tests.vision.small import SmallFamily, picture, write_picture


def policy_of(
    small: SmallFamily,
    folder: Path,
    route: Route = Route.SHARED,
    patch: pytest.MonkeyPatch | None = None,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float64,
) -> Model:
    """A model of the family with packed attention, which knows images.

    Args:
        device: None: the CPU.
        patch: makes the weights large, and removes roundings to float32 inside of the model, as long as it lasts; None:
            they stay.
    """
    small.processor().save_pretrained(folder)
    model = small.build().to(dtype)
    if patch is not None:
        without_rounding(model, patch)
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():  # the initial weights are small: make every part of the model matter
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype) * 0.3
    tokenizer = small.tokenizer()
    processing = ImageProcessing.load(str(folder), model.config, tokenizer)
    assert processing is not None
    model = model.to(device=device or "cpu", dtype=dtype)
    install(model)
    return Model(model.train(), tokenizer, route, vision=Vision(processing))


def prompt_of(
    policy: Model, text: str, pictures: Sequence[tuple[int, int, int]], folder: Path
) -> tuple[Tensor, tuple[MediaRef, ...]]:
    """Tokens of a prompt in which ``#`` stands for the next picture (seed, width, height), and its images."""
    assert policy.vision is not None
    processing, tokenizer = policy.vision.processing, policy.tokenizer
    tokens: list[int] = []
    media = []
    for number, piece in enumerate(text.split("#")):
        if number:
            seed, width, height = pictures[number - 1]
            path = write_picture(folder, seed, width, height)
            shown = processing.text_of(width, height)
            inserted = tokenizer.encode(shown.text, add_special_tokens=False)
            image = processing.family.image_token(processing.config)
            at = [index for index, token in enumerate(inserted) if token == image]
            span = (len(tokens) + at[0], len(tokens) + at[-1] + 1)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            media.append(MediaRef("image", str(path), span, digest, shown.num_patches))
            tokens += inserted
        tokens += tokenizer.encode(piece, add_special_tokens=False)
    return torch.tensor(tokens), tuple(media)


def group_of(
    policy: Model, text: str, pictures: Sequence[tuple[int, int, int]], answers: Sequence[str], folder: Path
) -> Group:
    """A group of answers to a prompt with pictures."""
    prompt, media = prompt_of(policy, text, pictures, folder)
    return Group(
        prompt=prompt,
        responses=tuple(
            Response(tokens=tokens, trainable=torch.ones(len(tokens), dtype=torch.bool))
            for tokens in (
                torch.tensor(policy.tokenizer.encode(answer, add_special_tokens=False)) for answer in answers
            )
        ),
        media=media,
    )


def plain_inputs(policy: Model, sequence: Tensor, pictures: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """What transformers' own processor gives the model for one sequence."""
    assert policy.vision is not None
    processing = policy.vision.processing
    inputs: dict[str, Any] = {"input_ids": sequence[None].to(policy.device)}
    if not pictures:
        return inputs
    shown = [picture(*one) for one in pictures]
    nested = [shown] if processing.family.name == "idefics3" else shown
    processed = processing.processor(images=nested, return_tensors="pt")
    names = ("pixel_values", "image_grid_thw", "pixel_attention_mask")
    inputs |= {name: processed[name] for name in names if name in processed}
    inputs["pixel_values"] = inputs["pixel_values"].to(policy.causal_lm.dtype)
    kinds = (sequence == processing.family.image_token(processing.config)).long()[None]
    if processing.family.name == "qwen-vl":
        inputs["mm_token_type_ids"] = kinds
    if processing.family.name == "gemma3":
        inputs["token_type_ids"] = kinds
    return {name: value.to(policy.device) for name, value in inputs.items()}


def plain_logprobs(
    model: PreTrainedModel, policy: Model, group: Group, pictures: Sequence[tuple[int, int, int]]
) -> Tensor:
    """[sum of R] log-probabilities of all responses by plain forwards of the model."""
    found = []
    for response in group.responses:
        sequence = torch.cat([group.prompt, response.tokens])
        logits = model(**plain_inputs(policy, sequence, pictures), use_cache=False).logits[0]
        size = len(response.tokens)
        logprobs = torch.log_softmax(logits[-size - 1 : -1], dim=-1)
        found.append(logprobs.gather(1, response.tokens[:, None].to(logprobs.device))[:, 0])
    return torch.cat(found)
