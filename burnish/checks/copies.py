"""Copies of a policy for the checks: perturbed, saved, and loaded by plain transformers and peft."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from burnish.export.export import export
from burnish.export.verify import load_adapter
from burnish.model.attention import plain_attention
from burnish.model.model_class import model_class_of
from burnish.model.policy import Model
from burnish.model.quantization import make_trainable, read_base
from burnish.model.vision import Vision
from burnish.types import Group
from burnish.watch.quiet import quiet_transformers

NUDGE = 0.02
"""Standard deviation of the noise on weights that are all zero, such as an adapter's second matrix."""
NUDGE_SHARE = 0.01
"""Standard deviation of the noise on other weights, relative to their root mean square."""

AnyModel: TypeAlias = PreTrainedModel | PeftModel


def copied(policy: Model, dtype: torch.dtype | None) -> Model:
    """Copy of a policy with weights of this type; None: of their own types."""
    model = copy.deepcopy(policy.model)
    return replace(policy, model=model if dtype is None else model.to(dtype))


@torch.no_grad()
def nudge(policy: Model) -> None:
    """Perturbs every trained weight slightly and deterministically, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    for _, parameter in policy.trained_parameters():
        size = float(parameter.float().square().mean().sqrt())
        noise = torch.randn(parameter.shape, generator=generator) * (NUDGE_SHARE * size if size else NUDGE)
        parameter.add_(noise.to(parameter.device, parameter.dtype))


@torch.no_grad()
def plain_logprobs(model: AnyModel, groups: Sequence[Group], vision: Vision | None = None) -> list[Tensor]:
    """[trained tokens] float64 log-probabilities of every response, by one unpadded forward of the plain model for each
    of its texts; `vision` gives it their images."""
    device, logprobs = model.device, []
    for group in groups:
        for response in group.responses:
            picked: list[Tensor] = []
            for tokens, own in response.rows(group.prompt):
                size = own.stop - own.start
                images = {} if vision is None else vision.plain_inputs(model, tokens, group.media)
                output = model(input_ids=tokens[None].to(device), use_cache=False, logits_to_keep=size + 1, **images)
                picked += [
                    row.double().log_softmax(-1)[target]
                    for row, target, is_trained in zip(
                        output.logits[0, :-1], tokens[-size:].tolist(), response.trainable[own], strict=True
                    )
                    if is_trained
                ]
            logprobs.append(torch.stack(picked) if picked else torch.zeros(0, dtype=torch.float64, device=device))
    return logprobs


def plain_logprobs_of(policy: Model, groups: Sequence[Group]) -> list[Tensor]:
    """`plain_logprobs` of a policy's model, with its plain attention."""
    with plain_attention(policy.causal_lm):
        return plain_logprobs(policy.model, groups, policy.vision)


def difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Largest mean absolute difference of a response's log-probabilities, nats."""
    return max(float((a - b).abs().mean()) for a, b in zip(first, second, strict=True) if len(a))


@dataclass(frozen=True, eq=False)
class Saved:
    """Perturbed copy of the policy, and the folder to which it was saved."""

    policy: Model
    folder: Path
    groups: tuple[Group, ...]
    expected: tuple[Tensor, ...]
    """Log-probabilities of the groups under it, with plain attention."""

    def load(self) -> AnyModel:
        """Loads the folder by transformers (or peft).

        Raises OSError, RuntimeError, ValueError or SafetensorError if it cannot.
        """
        whole = model_class_of(self.policy.causal_lm.config).from_pretrained
        load = load_adapter if isinstance(self.policy.model, PeftModel) else whole
        quantization = read_base(self.folder)
        options: dict[str, object] = {} if quantization is None else {"quantization_config": quantization}
        with _quiet():
            model: AnyModel = load(self.folder, dtype=self.policy.causal_lm.dtype, **options)
        if quantization is None:
            return model.to(self.policy.device).eval()
        make_trainable(model.get_base_model())
        return model.eval()

    @property
    def generation(self) -> GenerationConfig:
        """Generation settings of the folder."""
        return GenerationConfig.from_pretrained(self.folder)


def save(
    policy: Model,
    folder: Path,
    groups: tuple[Group, ...],
    template: str | dict[str, str] | None,
    end_tokens: Collection[int],
) -> Saved:
    """Saves the policy to a new folder as a run does."""
    policy.model.eval()
    expected = tuple(plain_logprobs_of(policy, groups))
    folder.mkdir()
    export(policy, folder, template=template, end_tokens=end_tokens)
    return Saved(policy, folder, groups, expected)


@contextmanager
def _quiet() -> Iterator[None]:
    with quiet_transformers(), warnings.catch_warnings():
        # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
