"""Writes any model that can be opened as files for other tools: `burnish merge` and `burnish export`.

Uses `open`, `merge` and `verify`. (A run writes its own model, with `export`.) The output folder appears
complete or not at all, and only after plain transformers has loaded it and given the same log-probabilities.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.export.base_form import keep_model_form, keep_tokenizer_form
from burnish.export.card import RunFacts, write_card
from burnish.export.merge import merge, narrow, refuse_quantized, types_of
from burnish.export.verify import ExportCheck, Logprobs, logprobs, prompts_of, verify_export, widened
from burnish.model.adapters.combine import Combination, combine
from burnish.model.adapters.initial import HALVES
from burnish.model.model_class import model_class_of
from burnish.model.open import LoadedModel, ModelRef, find_model, open_ref, with_template
from burnish.model.quantization import BASE
from burnish.model.stop_tokens import check_stop_tokens
from burnish.model.value_head import is_reward_model, value_head_config
from burnish.watch.quiet import quiet_transformers

Form = Literal["merged", "adapter", "gguf"]


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """Result of `write_model`."""

    folder: Path
    replayed: ExportCheck
    dtype: str
    """Type of the weights, such as bfloat16."""
    notes: tuple[str, ...]
    """Log lines about what loading changed."""


def write_model(
    name: str,
    output: Path,
    *,
    form: Form = "merged",
    base: str | None = None,
    template: str | None = None,
    others: Sequence[str] = (),
    combination: Combination | None = None,
    facts: RunFacts | None = None,
    parts: Sequence[str] = (),
    allow_reward_model: bool = True,
) -> WrittenModel:
    """Writes a model for other tools, and verifies the written files on prompts.

    Args:
        name: a hub name, or the folder of a model or an adapter.
        output: a new or empty folder; it appears complete or not at all.
        form: merged: whole weights, an adapter added to its base. adapter: the adapter alone. gguf: refused.
        base: the adapter's base, if it has moved since training; None: the one that the adapter names.
        template: a chat template to save instead of the tokenizer's; None: the tokenizer's.
        others: further adapters of the same base, to be combined with the first.
        combination: how adapters are combined; None: the defaults of `Combination`.
        facts: about the run of the first model, for the card; None: it is not known.
        parts: names of the combined adapters for the card; empty: the last parts of their paths.
        allow_reward_model: whether a reward model is allowed, which is written merged and alone only.

    Raises:
        ModelError: there is no such model, the form is impossible, generation would not stop where the template ends
            an answer, or the written files are another model.
    """
    if form == "gguf":
        raise _no_gguf(name)
    _refuse_occupied(output)
    named = _source_model(name, base, form)
    merging = form == "merged" and named.kind == "adapter"
    # An adapter is merged into unquantized weights, also if it was trained on a quantized base.
    merged_alone = form == "merged" and not others
    opened = open_ref(
        named, device=torch.device("cpu"), as_trained=False, allow_reward_model=allow_reward_model and merged_alone
    )
    if others:
        opened = _combined(opened, [find_model(other, base) for other in others], combination or Combination())
    if template is not None:
        opened = with_template(opened, template)
    vocabulary = opened.causal_lm.get_input_embeddings().weight.shape[0]
    value_head = value_head_config(opened.causal_lm) if is_reward_model(opened.causal_lm) else None
    if value_head is None:
        check_stop_tokens(opened.causal_lm.generation_config, vocabulary, opened.tokenizer, opened.template)
    prompts = prompts_of(opened.tokenizer, opened.template, vocabulary)
    model, expected = merge(opened, prompts) if merging else _as_stored(opened, prompts)
    dtype = torch.float32 if form == "adapter" else model.dtype
    with _atomic_folder(output) as place:
        _save(model, opened, place)
        if form == "adapter" and not others:
            _copy_own_files(Path(named.place), place)
        rounded = logprobs(widened(model), prompts) if merging else None
        check = verify_export(place, opened.tokenizer, prompts, expected, rounded, dtype)
        checked, dtype_name = check.line(is_reward_model=value_head is not None), str(dtype).removeprefix("torch.")
        write_card(
            place,
            named,
            output.name,
            facts,
            form=form,
            dtype=dtype_name,
            checked=checked,
            parts=(parts or [part.rsplit("/", 1)[-1] for part in (name, *others)]) if others else (),
            value_head=value_head,
            chats=opened.template is not None,
            model_class=model_class_of(opened.causal_lm.config).__name__,
        )
    return WrittenModel(output, check, dtype_name, opened.notes)


def _source_model(name: str, base: str | None, form: Form) -> ModelRef:
    """The model of that name, if it can be written in the form."""
    named = find_model(name, base)
    if named.kind == "model" and form == "adapter":
        raise ModelError(
            given=f"{name} is a whole model, and --form is adapter",
            rule="only a model that was trained as an adapter is written as one",
            remedy="leave out --form, or name the run or folder of the adapter",
        )
    if form == "merged" and named.kind == "adapter":
        refuse_quantized(named)
    return named


def _combined(opened: LoadedModel, others: Sequence[ModelRef], how: Combination) -> LoadedModel:
    """The combination of several adapters of one base; `opened`, the first with its base, is consumed."""
    for named in others:
        if named.kind != "adapter" or named.base != opened.base:
            description = f"an adapter of {named.base}" if named.kind == "adapter" else "a whole model"
            raise ModelError(
                given=f"{opened.named.given} is an adapter of {opened.base}, and {named.given} is {description}",
                rule="adapters that are combined have one base",
                remedy="name adapters of one base; if the base has moved, name it with --base",
            )
    if not isinstance(opened.model, PeftModel):
        raise ModelError(
            given=f"{opened.named.given} is a whole model",
            rule="only adapters can be combined",
            remedy="name adapters, or runs that trained one",
        )
    model = opened.model.unload()
    combined = combine(model, [Path(named.place) for named in (opened.named, *others)], how)
    return replace(opened, model=combined.eval())


def _as_stored(opened: LoadedModel, prompts: list[Tensor]) -> tuple[PreTrainedModel | PeftModel, Logprobs]:
    """The model in the types of its files, and its log-probabilities on the prompts, computed in float32."""
    types = types_of(opened.causal_lm)
    expected = logprobs(widened(opened.model), prompts)
    if opened.kind == "model":  # an adapter's base is not written
        narrow(opened.causal_lm, types)
    return opened.model, expected


def _save(model: PreTrainedModel | PeftModel, opened: LoadedModel, place: Path) -> None:
    """Saves weights, configuration, generation settings, tokenizer and template."""
    if opened.template is not None:
        opened.tokenizer.chat_template = opened.template.saved
    if isinstance(model, PeftModel):  # the base may have moved since training
        model.active_peft_config.base_model_name_or_path = opened.base
    with quiet_transformers(), warnings.catch_warnings():
        # Saving the embeddings of a grown vocabulary is intended.
        warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
        model.save_pretrained(place)
        if not is_reward_model(opened.causal_lm):
            opened.causal_lm.generation_config.save_pretrained(place)
        opened.tokenizer.save_pretrained(place)
        if opened.images is not None:
            opened.images.save(place)
    keep_model_form(place, opened.causal_lm)
    keep_tokenizer_form(place, opened.tokenizer)


def _copy_own_files(folder: Path, place: Path) -> None:
    """Copies an adapter's files that are Burnish's own and not peft's."""
    for name in (BASE, HALVES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, place / name)


@contextmanager
def _atomic_folder(output: Path) -> Iterator[Path]:
    """A folder that is renamed to `output` when it is complete, and removed if anything fails."""
    output = output.expanduser().absolute()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        place = output.parent / f".{output.name}.partial-{os.getpid()}"
        place.mkdir()
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        yield place
        for path in place.rglob("*"):  # safetensors writes files that only their owner may read
            path.chmod(place.stat().st_mode & (0o777 if path.is_dir() else 0o666))
        if output.is_dir():
            output.rmdir()
        place.rename(output)
    except OSError as error:
        raise _unwritable(output, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _refuse_occupied(output: Path) -> None:
    folder = output.expanduser()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ModelError(
            given=f"--output {output}, which is {'a file' if folder.is_file() else 'a folder that is not empty'}",
            rule="a model is written to a new or empty folder",
            remedy="name another folder, or empty that one",
        )


def _unwritable(output: Path, error: OSError) -> ModelError:
    return ModelError(
        given=f"{output} cannot be written: {error.strerror or error}",
        rule="a model is written to a temporary folder next to its final one and then renamed",
        remedy="give an --output that this user may write to, on a disk with space for the model",
    )


def _no_gguf(name: str) -> ModelError:
    return ModelError(
        given=f"{name} with --form gguf",
        rule="llama.cpp's converter is a script of its repository; no package has it",
        remedy="export with --form merged, then run llama.cpp's convert_hf_to_gguf.py on the folder "
        "(https://github.com/ggml-org/llama.cpp)",
    )
