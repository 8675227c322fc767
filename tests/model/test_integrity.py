"""Integrity of model folders: what is refused, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast

from burnish.builtin.tiny import make_tokenizer
from burnish.errors import ModelError
from burnish.model.integrity import (
    LFS_POINTER,
    check_files,
    check_generation_config,
    check_rows,
    check_tokenizer,
    check_weights,
    require_finite,
    rows_needed,
)
from tests.families import VOCABULARY, small_tokenizer


def byte_tokenizer(alphabet: list[str], *, decodes: bool = True) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if decodes:
        core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize("tokenizer", [make_tokenizer(), small_tokenizer(), byte_tokenizer(ALPHABET)])
def test_sound_tokenizers(tokenizer):
    """Also one of 61 words, none of them English."""
    check_tokenizer("model", tokenizer)
    check_rows("model", tokenizer, len(tokenizer))


@pytest.mark.parametrize(
    "tokenizer",
    [
        byte_tokenizer([]),
        byte_tokenizer([letter for letter in ALPHABET if letter != "q"]),
        byte_tokenizer(ALPHABET, decodes=False),
    ],
    ids=["no vocabulary", "a lost letter", "no decoder"],
)
def test_tokenizers_that_lose_text(tokenizer):
    with pytest.raises(ModelError, match="does not give a sentence back"):
        check_tokenizer("model", tokenizer)


@pytest.mark.parametrize("special", [False, True])
def test_every_token_needs_a_row_and_padding_rows_are_fine(special):
    tokenizer = small_tokenizer()
    check_rows("model", tokenizer, VOCABULARY + 64)
    tokenizer.add_tokens([AddedToken("<more>", special=special)], special_tokens=special)
    check_rows("model", tokenizer, VOCABULARY + 1)
    with pytest.raises(ModelError, match=rf"'<more>' with the id {VOCABULARY}; the model's embedding has {VOCABULARY}"):
        check_rows("model", tokenizer, VOCABULARY)


def test_a_token_for_images_needs_no_row(tmp_path):
    """The tokenizer of gemma-3-1b, a language model, has the image token of the larger ones."""
    tokenizer = small_tokenizer()
    tokenizer.add_tokens([AddedToken("<image>", special=True)], special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra_special_tokens": {"image_token": "<image>"}}))
    check_rows("model", PreTrainedTokenizerFast.from_pretrained(tmp_path), VOCABULARY)


@given(
    value=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    place=st.integers(0, 34),
)
def test_a_weight_that_is_not_finite_is_named(value, dtype, place):
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7)).to(dtype)
    check_weights("model", model)
    with torch.no_grad():
        model[1].weight.view(-1)[place] = value
    with pytest.raises(ModelError, match=r"1\.weight of model is not finite"):
        check_weights("model", model)


def test_the_largest_numbers_are_finite():
    model = nn.Linear(3, 5).half()
    nn.init.constant_(model.weight, torch.finfo(torch.float16).max)
    check_weights("model", model)
    require_finite("loss", "model", torch.finfo(torch.float64).max)  # wider than a default tensor
    for value in (float("nan"), torch.tensor([1.0, float("inf")])):
        with pytest.raises(ModelError, match="loss of model is not finite"):
            require_finite("loss", "model", value)


def test_ids_of_generation_settings():
    check_generation_config("model", GenerationConfig(eos_token_id=[0, 9], pad_token_id=3), 10)
    for key, value in (("eos_token_id", [0, 10]), ("eos_token_id", -1), ("bos_token_id", 10), ("pad_token_id", 11)):
        with pytest.raises(ModelError, match=key):
            check_generation_config("model", GenerationConfig(**{key: value}), 10)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt", "tokenizer.model", "a.jinja"])
def test_pointers(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(LFS_POINTER + b"v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match=f"{name} is a Git LFS pointer"):
        check_files(tmp_path)


@given(share=st.floats(0.0, 0.999))
def test_weights_that_are_cut_off_anywhere(tmp_path_factory: pytest.TempPathFactory, share: float):
    folder = tmp_path_factory.mktemp("model")
    path = folder / "model.safetensors"
    save_file({"weight": torch.zeros(7, 3), "bias": torch.zeros(3)}, path)
    check_files(folder)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=r"model\.safetensors is cut off"):
        check_files(folder)


def test_files_that_nobody_reads_are_not_checked(tmp_path: Path):
    """The index and shards of an earlier save beside the one file, and another tool's weights."""
    save_file({"weight": torch.zeros(7, 3)}, tmp_path / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "consolidated.safetensors").write_bytes(LFS_POINTER + b"v1\n")
    check_files(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks model-00001-of-00002"):
        check_files(tmp_path)


@pytest.mark.parametrize("name", ["pad_token", "mask_token", "cls_token", "sep_token"])
def test_a_token_that_no_text_is_read_as_needs_no_row(name: str):
    """transformers adds them itself for some classes; an end token of the same text needs its row."""
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens({name: "<new>"})
    check_rows("model", tokenizer, VOCABULARY)
    assert rows_needed(tokenizer) == VOCABULARY
    tokenizer.eos_token = "<new>"
    assert rows_needed(tokenizer) == VOCABULARY + 1


def test_a_tokenizer_of_few_symbols_gives_its_own_words_back():
    """Digits and signs alone, without an unknown token; the empty one stays refused."""
    check_tokenizer("model", byte_tokenizer(list("0123456789+=")))


def test_negative_ids_stand_for_none():
    """Old LLaMA conversions have pad_token_id: -1."""
    check_generation_config("model", GenerationConfig(eos_token_id=2, pad_token_id=-1), 10)
