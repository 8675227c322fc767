"""Merges adapters into their base, and writes models in another form (`burnish merge`, `burnish export`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.errors import ModelError
from burnish.export.push import check_push
from burnish.export.push import push as upload
from burnish.export.write import Form, WrittenModel, write_model
from burnish.model.adapters.combine import Combination
from burnish.model.open import find_model
from burnish.runs.facts import read_facts
from burnish.runs.named_model import resolve_model


def merge(
    models: Sequence[str],
    output: Path,
    *,
    combination: Combination | None = None,
    form: Form = "merged",
    base: str | None = None,
    chat_template: str | None = None,
    push: str | None = None,
    public: bool = False,
) -> tuple[WrittenModel, str]:
    """Merges one or several adapters into their base, see `write_as`.

    Raises:
        ModelError: a model is no adapter.
    """
    if find_model(resolve_model(models[0]), base).kind != "adapter":
        raise ModelError(
            given=f"{models[0]} is a full model",
            rule="burnish merge takes adapters",
            remedy="there is nothing to merge; burnish export writes a model in another form",
        )
    return write_as(
        models,
        output,
        combination=combination,
        form=form,
        base=base,
        chat_template=chat_template,
        push=push,
        public=public,
    )


def write_as(
    models: Sequence[str],
    output: Path,
    *,
    combination: Combination | None = None,
    form: Form = "merged",
    base: str | None = None,
    chat_template: str | None = None,
    push: str | None = None,
    public: bool = False,
) -> tuple[WrittenModel, str]:
    """Writes a model with a model card, and verifies it on prompts.

    Args:
        models: hub names, or folders of models, adapters or runs; several adapters are combined.
        output: a new or empty folder.
        combination: how several adapters are combined; None: the defaults.
        form: see `write_model`.
        base: base model of an adapter, if it is not at the path in its config.
        chat_template: a chat template to save instead of the model's own.
        push: hub repository to upload to, ``owner/name``; None: nothing is uploaded.
        public: whether a new repository is public.

    Returns:
        What was written, and the address of the upload ("": nothing was uploaded).

    Raises:
        ModelError: see `write_model`.
    """
    if push is not None:
        check_push(push)
    first, *rest = map(resolve_model, models)
    written = write_model(
        first,
        output,
        form=form,
        base=base,
        template=chat_template,
        others=rest,
        combination=combination,
        facts=read_facts(models[0]),
        parts=[name.rsplit("/", 1)[-1] for name in models],
    )
    return written, "" if push is None else upload(output, push, private=not public)
