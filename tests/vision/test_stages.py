"""Stages on rows with images: they train, a resumed run equals an undisturbed one, and plain transformers loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

import burnish
from burnish.checks.laws import packed_equals_plain
from burnish.checks.saving import saved_is_loaded
from burnish.checks.subject import Subject
from burnish.errors import DataError, Interrupted, ModelError
from burnish.evaluate.chat import Chat, converse
from burnish.model.open import open_model, policy_of
from burnish.recipe.read import stage_recipe
from burnish.sampling.params import SamplingParams
from tests.interrupting import interrupted_at
from tests.vision.equality import scored
from tests.vision.groups import group_of, plain_logprobs
from tests.vision.small import FAMILIES, SmallFamily, rows_of, write_picture
from tests.vision.test_equality import EACH_FAMILY

SMALL = {"sequences_per_step": 4, "learning_rate": 1e-2, "max_steps": 4}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def changed(before: Path, after: Path) -> set[str]:
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    return {name for name in old if not torch.equal(old[name], new[name])}


@EACH_FAMILY
def test_sft_trains_decoder_and_projector_and_what_it_writes_loads_in_transformers(
    small: SmallFamily, folder: Path
) -> None:
    model = small.write(folder / "model")
    run = burnish.sft(model=str(model), data=str(rows_of("sft", folder)), output=str(folder / "run"), **SMALL)
    losses = [line["train/loss"] for line in run.metrics if "train/loss" in line]
    assert losses[-1] < losses[0]
    written = run.folder / "model"
    names = changed(model, written)
    of_tower = {name for name in names if "visual." in name or "vision_" in name}
    assert {name for name in of_tower if "merger" not in name} == set()
    assert any("merger" in name or "projector" in name or "connector" in name for name in names)
    plain = AutoModelForImageTextToText.from_pretrained(written).eval()
    assert AutoImageProcessor.from_pretrained(written, backend="pil").to_dict() == small.processor().to_dict()
    assert AutoTokenizer.from_pretrained(written).chat_template == small.template
    policy = policy_of(open_model(str(written)))
    pictures = ((1, 40, 24),)
    group = group_of(policy, "<|user|>\n#?<|end|>\n<|assistant|>\n", pictures, ["yes", "no"], folder)
    ours = scored(policy, [group], 1000)
    with torch.no_grad():
        theirs = plain_logprobs(plain, policy, group, pictures)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stage", ["sft", "prefer", "rl", "reward"])
def test_a_resumed_run_equals_an_undisturbed_one(stage: str, folder: Path) -> None:
    small = FAMILIES[0]
    model = small.write(folder / "model")
    kinds = {"sft": "sft", "prefer": "pairs", "reward": "pairs", "rl": "tasks"}
    settings: dict[str, Any] = {**SMALL, "data": str(rows_of(kinds[stage], folder)), "model": str(model)}
    settings["vision.tower"] = "trained"
    if stage == "rl":
        del settings["sequences_per_step"]
        settings |= {"groups_per_step": 3, "responses_per_prompt": 3, "max_new_tokens": 5, "reward": "exact"}
    train = getattr(burnish, stage)
    whole = train(output=str(folder / "whole"), checkpoint_every=2, **settings)
    with interrupted_at(2), pytest.raises(Interrupted):
        train(output=str(folder / "half"), checkpoint_every=2, **settings)
    assert not (folder / "half" / "model").exists()
    resumed = train(output=str(folder / "half"), checkpoint_every=2, **settings)
    assert changed(whole.folder / "model", resumed.folder / "model") == set()
    if stage == "rl":
        prompts = {sample["prompt"] for sample in whole.samples}
        assert any(prompt.startswith("<image>What is") for prompt in prompts)
    if stage in ("sft", "prefer"):  # the others have no reward that differs, or names of their own
        assert any("visual.blocks." in name for name in changed(model, whole.folder / "model"))


def test_lora_adapts_the_decoder_and_the_projector_alone(folder: Path) -> None:
    model = FAMILIES[0].write(folder / "model")
    data = str(rows_of("pairs", folder))
    common: dict[str, Any] = {"model": str(model), "data": data, "adapter.kind": "lora", **SMALL}
    first = burnish.prefer(output=str(folder / "a"), **common)
    names = set(load_file(first.folder / "model" / "adapter_model.safetensors"))
    assert any("language_model" in name for name in names)
    assert {name for name in names if ".visual." in name} == {name for name in names if ".visual.merger." in name}
    assert any(".visual.merger." in name for name in names)
    second = burnish.prefer(output=str(folder / "b"), **common, **{"vision.projector": "frozen"})
    names = set(load_file(second.folder / "model" / "adapter_model.safetensors"))
    assert not any(".visual." in name for name in names)
    merged = burnish.merge(str(folder / "a"), output=str(folder / "merged"))
    assert "AutoModelForImageTextToText.from_pretrained(name)" in (merged.folder / "README.md").read_text()
    policy = policy_of(open_model(str(merged.folder)))
    assert policy.vision is not None
    adapted = policy_of(open_model(str(folder / "a" / "model")))
    assert adapted.vision is not None
    group = group_of(policy, "#?", ((1, 40, 24),), ["yes"], folder)
    assert torch.allclose(scored(policy, [group], 1000), scored(adapted, [group], 1000), atol=1e-4)


def test_an_image_that_changes_after_tokenization_is_refused(folder: Path) -> None:
    model = FAMILIES[0].write(folder / "model")
    data = str(rows_of("sft", folder))
    burnish.sft(model=str(model), data=data, output=str(folder / "run"), **SMALL)
    for path in folder.glob("1-*.png"):
        path.write_bytes(write_picture(folder, 9, 40, 24).read_bytes())
    with pytest.raises(DataError, match="was changed after the data set was tokenized"):
        burnish.sft(model=str(model), data=data, output=str(folder / "again"), **SMALL)


def test_settings_of_vision_are_refused_for_a_language_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="takes text alone"):
        burnish.sft(
            model="builtin:tiny",
            data="builtin:chat",
            output=str(folder / "run"),
            chat_template="chatml",
            **SMALL,
            **{"vision.tower": "trained"},
        )


def test_ppo_and_distill_refuse_images_by_name(folder: Path) -> None:
    model = str(FAMILIES[0].write(folder / "model"))
    tasks = str(rows_of("tasks", folder))
    with pytest.raises(DataError, match="images") as refused:
        burnish.ppo(model=model, data=tasks, output=str(folder / "ppo"), reward="exact", max_steps=4)
    assert "distill and ppo" in refused.value.rule
    with pytest.raises(DataError, match="images") as refused:
        burnish.distill(model=model, teacher=model, data=tasks, output=str(folder / "distill"), max_steps=1)
    assert "distill and ppo" in refused.value.rule


def test_a_language_model_refuses_rows_with_images(folder: Path) -> None:
    with pytest.raises(DataError, match="takes text alone"):
        burnish.sft(
            model="builtin:tiny",
            data=str(rows_of("sft", folder)),
            output=str(folder / "run"),
            chat_template="chatml",
            add_tokens="template",
            **SMALL,
        )


def test_chat_and_view_show_images(folder: Path) -> None:
    opened = open_model(str(FAMILIES[0].write(folder / "model")))
    notes: list[str] = []
    said: list[str] = []
    chat = Chat(opened, SamplingParams(max_new_tokens=4, temperature=0))
    lines = [f"/image {write_picture(folder, 1)}", "What is it?", "/image nowhere.png", "And now?"]
    converse(chat, lines, said.append, notes.append)
    assert chat.messages[0].images == (str(folder / "1-40x24.png"),)
    assert chat.messages[2].images == ()
    assert any("is about this image" in note for note in notes)
    assert any("nowhere.png does not exist" in note for note in notes)
    views = burnish.view(str(rows_of("sft", folder)), model=str(folder / "model"), count=3)
    page = views.html()
    assert page.count("<img src=") == 2
    assert "<|image_pad|>×15" in page.replace("&lt;", "<").replace("&gt;", ">")


def test_held_out_prompts_keep_their_images(folder: Path) -> None:
    model = FAMILIES[0].write(folder / "model")
    data = str(rows_of("sft", folder))
    settings = {**SMALL, "max_steps": 2, "evaluation.generations": 4}
    run = burnish.sft(model=str(model), data=data, eval_data=data, output=str(folder / "run"), **settings)
    assert any("eval/accuracy" in line for line in run.evaluations)


@EACH_FAMILY
def test_check_finds_rows_with_images_sound(small: SmallFamily, folder: Path) -> None:
    """Packed rows equal the model's own forward with their images, in the model and in what is saved of it."""
    data = rows_of("sft", folder)
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    first = json.loads(lines[1])
    turns = [*first["messages"], {"role": "user", "content": "and <image>?"}, {"role": "assistant", "content": "so"}]
    later = json.dumps({"messages": turns, "images": first["images"] * 2}) + "\n"
    data.write_text(later + "".join(line for line in lines if "images" in line), encoding="utf-8")
    given = {"model": str(small.write(folder / "model")), "data": str(data)}
    (folder / "work").mkdir()
    subject = Subject(stage_recipe("sft", given, ("max_steps=4",)), folder / "work")
    assert all(group.media for group in subject.shared)
    assert any(group.prompt_weights is not None for group in subject.shared)
    for check in (packed_equals_plain, saved_is_loaded):
        assert check(subject).passed
