"""Writing any model that can be opened, in a form that others load: behind `burnish merge` and `burnish export`.

The last of the model's stages, over `open`, `merge` and `verify_export`. (A run writes its own model, with `export`.)
What is written appears whole, and only after a plain transformers has loaded it and said the same to the same prompts.
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
from burnish.model.adapters.combine import Combination, combine
from burnish.model.adapters.initial import HALVES
from burnish.model.card import write_card
from burnish.model.merge import merge, narrow, refuse_quantized, types_of
from burnish.model.open import LoadedModel, ModelRef, find_model, open_ref, with_template
from burnish.model.quantization import BASE
from burnish.model.stop_tokens import check_stop_tokens
from burnish.model.value_head import is_reward_model, value_head_config
from burnish.model.verify_export import ExportCheck, Logprobs, logprobs, prompts_of, verify_export, widened
from burnish.watch.quiet import quiet_transformers

Form = Literal["merged", "adapter", "gguf"]


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_model` wrote."""

    folder: Path
    replayed: ExportCheck
    dtype: str
    """Type of the weights, such as bfloat16."""
    notes: tuple[str, ...]
    """What loading changed about the files, in lines for people."""


def write_model(
    name: str,
    output: Path,
    *,
    form: Form = "merged",
    base: str | None = None,
    template: str | None = None,
    others: Sequence[str] = (),
    combination: Combination | None = None,
    may_judge: bool = True,
) -> Written:
    """Writes a model in a form that others load, and replays prompts with what was written.

    Args:
        name: a hub name, or a folder: a model's, an adapter's or a run's.
        output: a new or empty folder; it appears whole, or not at all.
        form: merged: whole weights, an adapter added to its base. adapter: the adapter alone. gguf: refused.
        base: the adapter's base, where it is no longer where the adapter remembers it.
        template: a template to save instead of the one that is with the tokenizer; None: that one.
        others: further adapters of the same base, which become one with the first.
        combination: how they do; None: as `Combination` has it.
        may_judge: whether it may be a reward model, which is written merged and alone only.

    Raises:
        ModelError: there is nothing there, the form is impossible, it would not stop where its template ends an
            answer, or what was written is another model.
    """
    if form == "gguf":
        raise _no_gguf(name)
    _refuse_occupied(output)
    named = _to_be_written(name, base, form)
    merging = form == "merged" and named.kind == "adapter"
    # An adapter is added to weights that can hold the sum, also where it was trained beside quantised ones.
    whole_and_alone = form == "merged" and not others
    opened = open_ref(named, device=torch.device("cpu"), as_trained=False, may_judge=may_judge and whole_and_alone)
    if others:
        opened = _combined(opened, [find_model(other, base) for other in others], combination or Combination())
    if template is not None:
        opened = with_template(opened, template)
    vocabulary = opened.causal_lm.get_input_embeddings().weight.shape[0]
    judging = value_head_config(opened.causal_lm) if is_reward_model(opened.causal_lm) else None
    if judging is None:
        check_stop_tokens(opened.causal_lm.generation_config, vocabulary, opened.tokenizer, opened.template)
    prompts = prompts_of(opened.tokenizer, opened.template, vocabulary)
    model, expected = merge(opened, prompts) if merging else _as_stored(opened, prompts)
    dtype = torch.float32 if form == "adapter" else model.dtype
    with _whole(output) as place:
        _save(model, opened, place)
        if form == "adapter" and not others:
            _keep_beside(Path(named.place), place)
        rounded = logprobs(widened(model), prompts) if merging else None
        replayed = verify_export(place, opened.tokenizer, prompts, expected, rounded, dtype)
        names = [each.rsplit("/", 1)[-1] for each in (name, *others)] if others else []
        told, numbers = replayed.line(is_reward_model=judging is not None), _called(dtype)
        write_card(place, named, output.name, form=form, dtype=numbers, checked=told, parts=names, judging=judging)
    return Written(output, replayed, numbers, opened.notes)


def _to_be_written(name: str, base: str | None, form: Form) -> ModelRef:
    """What the name means, if it can have the form."""
    named = find_model(name, base)
    if named.kind == "model" and form == "adapter":
        raise ModelError(
            given=f"{name} is a whole model, to be written as an adapter",
            rule="an adapter is what was trained beside a base",
            remedy="leave out --form, or name the run or folder of the adapter",
        )
    if form == "merged" and named.kind == "adapter":
        refuse_quantized(named)
    return named


def _combined(opened: LoadedModel, others: Sequence[ModelRef], how: Combination) -> LoadedModel:
    """The adapter that several of one base make; `opened` is the first with its base, and is used up."""
    for named in others:
        if named.kind != "adapter" or named.base != opened.base:
            what = f"an adapter of {named.base}" if named.kind == "adapter" else "a whole model"
            raise ModelError(
                given=f"{opened.named.given} is an adapter of {opened.base}, and {named.given} is {what}",
                rule="adapters that are combined have one base",
                remedy="name adapters of one base; with --base, if it is one that was moved",
            )
    if not isinstance(opened.model, PeftModel):
        raise ModelError(
            given=f"{opened.named.given} is a whole model",
            rule="what is combined are adapters",
            remedy="name adapters or runs that trained one",
        )
    model = opened.model.unload()
    combined = combine(model, [Path(each.place) for each in (opened.named, *others)], how)
    return replace(opened, model=combined.eval())


def _called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _as_stored(opened: LoadedModel, prompts: list[Tensor]) -> tuple[PreTrainedModel | PeftModel, Logprobs]:
    """The model in the types of its files, and what it says to the prompts, computed in float32."""
    types = types_of(opened.causal_lm)
    expected = logprobs(widened(opened.model), prompts)
    if opened.kind == "model":  # of an adapter, the base is not written
        narrow(opened.causal_lm, types)
    return opened.model, expected


def _save(model: PreTrainedModel | PeftModel, opened: LoadedModel, place: Path) -> None:
    """Weights, configuration, generation settings, tokenizer and template."""
    if opened.template is not None:
        opened.tokenizer.chat_template = opened.template.saved
    if isinstance(model, PeftModel):  # where the base was found, which is not always where the adapter remembers it
        model.active_peft_config.base_model_name_or_path = opened.base
    with quiet_transformers(), warnings.catch_warnings():
        # That embeddings of a grown vocabulary are saved too is right, and not worth a warning.
        warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
        model.save_pretrained(place)
        if not is_reward_model(opened.causal_lm):
            opened.causal_lm.generation_config.save_pretrained(place)
        opened.tokenizer.save_pretrained(place)


def _keep_beside(folder: Path, place: Path) -> None:
    """What an adapter of ours has beside peft's files."""
    for name in (BASE, HALVES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, place / name)


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A folder that gets its name when everything is in it, and is gone if anything fails."""
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
        rule="a model is written beside its final place and then renamed, as a whole",
        remedy="give an --output that this user may write to, on a disk with space for the model",
    )


def _no_gguf(name: str) -> ModelError:
    return ModelError(
        given=f"{name}, to be written as GGUF",
        rule="the converter that llama.cpp's authors keep is a script of its repository; no package of theirs has it",
        remedy="export with --form merged, then run llama.cpp's convert_hf_to_gguf.py on the folder "
        "(https://github.com/ggml-org/llama.cpp)",
    )
