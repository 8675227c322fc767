"""Merging and exporting: the written model is the one that was meant, and what would be another is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from burnish.errors import ModelError
from burnish.export import verify
from burnish.export.write import write_model
from burnish.model.open import open_model
from tests.adapters import change_json, write_adapter, write_base

IDS = torch.tensor([[5, 9, 30, 200, 257, 3]])


def logprobs(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        difference: torch.Tensor = model.float()(input_ids=IDS).logits.log_softmax(-1)
    return difference


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_merged_model_says_what_base_and_adapter_say(tmp_path, dtype, tied):
    base = write_base(tmp_path / "base", dtype, tied=tied)
    adapter = write_adapter(tmp_path / "adapter", base, scale=0.3)
    written = write_model(str(adapter), tmp_path / "merged")
    theirs = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == dtype
    assert merged.config.tie_word_embeddings == tied
    difference = float((logprobs(merged) - logprobs(theirs)).abs().max())
    assert difference < {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.01}[dtype]
    assert written.replayed.largest <= written.replayed.tolerance == verify.TOLERANCE[dtype]
    assert difference > 1e-6 or dtype == torch.float32, (
        "a difference of exactly nothing would mean that nothing was merged"
    )
    far = float((logprobs(merged) - logprobs(AutoModelForCausalLM.from_pretrained(base))).abs().max())
    assert far > 0.3, "the adapter matters"


def test_weights_are_rounded_once(tmp_path):
    """A sum in float32, rounded to bfloat16; peft alone would round the product and then the sum."""
    base = write_base(tmp_path / "base", torch.bfloat16)
    adapter = write_adapter(tmp_path / "adapter", base)
    write_model(str(adapter), tmp_path / "merged")
    lora = load_file(adapter / "adapter_model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    weight = load_file(base / "model.safetensors")[f"{name}.weight"].double()
    exact = weight + (8 / 4) * b.double() @ a.double()
    merged = load_file(tmp_path / "merged" / "model.safetensors")[f"{name}.weight"].double()
    nearest = exact.bfloat16().double()
    # The sum is float32's: where it falls almost between two numbers, either of them is the nearest. Its error is one
    # of the addends, which may cancel.
    addends = weight.abs() + (8 / 4) * b.double().abs() @ a.double().abs()
    assert bool(((merged - exact).abs() <= (nearest - exact).abs() + 2**-22 * addends).all())


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_added_tokens_are_kept(tmp_path, form, tied):
    base = write_base(tmp_path / "base", tied=tied)
    adapter = write_adapter(tmp_path / "adapter", base, tokens=["<|new|>", "<|other|>"])
    written = write_model(str(adapter), tmp_path / "out", form=form)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids("<|other|>") == len(tokenizer) - 1
    again, before = open_model(str(tmp_path / "out")).model, open_model(str(adapter)).model
    ids = torch.tensor([[3, len(tokenizer) - 1, len(tokenizer) - 2, 8]])
    with torch.no_grad():
        assert torch.allclose(again(input_ids=ids).logits, before(input_ids=ids).logits, atol=1e-4)
    assert written.replayed.largest < 1e-4


def test_an_exported_model_is_the_same_bit_for_bit(tmp_path):
    base = write_base(tmp_path / "base", torch.bfloat16)
    written = write_model(str(base), tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert written.replayed.largest == 0


def test_an_exported_adapter_names_the_folder_of_its_base(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    base.rename(tmp_path / "moved")
    written = write_model(str(adapter), tmp_path / "out", form="adapter", base=str(tmp_path / "moved"))
    assert written.replayed.largest < 1e-5
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "moved"
    )


def test_everything_that_serving_needs_is_there(tmp_path):
    base = write_base(tmp_path / "base")
    write_model(str(base), tmp_path / "out")
    assert "{{ message.content }}" in AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == 256
    for path in (tmp_path / "out").iterdir():
        assert path.stat().st_mode & 0o777 == (base / "config.json").stat().st_mode & 0o777, path.name


TIED = {
    "the embedding alone": {"target_modules": ["q_proj", "embed_tokens"]},
    "the head alone": {"target_modules": ["q_proj", "lm_head"]},
    "an embedding of its own": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "a head of its own": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}


@pytest.mark.parametrize("case", TIED)
def test_tied_embeddings_are_not_untied(tmp_path, case):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, **TIED[case])
    with pytest.raises(ModelError, match="tied embeddings"):
        write_model(str(adapter), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"], "nothing is left behind"


def test_merging_into_quantized_weights_is_refused(tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    change_json(base / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(ModelError, match=r"quantized weights \(bitsandbytes\)"):
        write_model(str(adapter), tmp_path / "out")


def test_wrong_end_tokens_are_refused(tmp_path):
    base = write_base(tmp_path / "base")
    change_json(base / "generation_config.json", eos_token_id=5)
    with pytest.raises(ModelError, match="generation stops at 5"):
        write_model(str(base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("occupied", ["a file", "a folder"])
def test_nothing_is_overwritten(tmp_path, occupied):
    base = write_base(tmp_path / "base")
    output = tmp_path / "out"
    if occupied == "a file":
        output.write_text("mine")
    else:
        output.mkdir()
        (output / "mine").touch()
    with pytest.raises(ModelError, match="new or empty folder"):
        write_model(str(base), output)


def test_an_empty_folder_is_filled(tmp_path):
    base = write_base(tmp_path / "base")
    (tmp_path / "out").mkdir()
    write_model(str(base), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_forms_that_cannot_be(tmp_path):
    base = write_base(tmp_path / "base")
    with pytest.raises(ModelError, match="whole model"):
        write_model(str(base), tmp_path / "out", form="adapter")
    with pytest.raises(ModelError, match=r"convert_hf_to_gguf\.py"):
        write_model(str(base), tmp_path / "out", form="gguf")


@pytest.mark.parametrize("spoilt", ["weights", "tokenizer", "template"])
def test_another_model_in_the_folder_is_detected(tmp_path, monkeypatch, spoilt):
    """Whatever goes wrong on the way to the disk: here, between writing and reading."""
    base = write_base(tmp_path / "base")
    loaded = verify._loaded

    def spoil(folder: Path) -> object:
        model, tokenizer = loaded(folder)
        if spoilt == "weights":
            model.model.layers[1].mlp.down_proj.weight.data[3] += 0.5
        elif spoilt == "tokenizer":
            tokenizer.add_tokens(["sea"])
        else:
            tokenizer.chat_template = "{{ messages[0].content }}"
        return model, tokenizer

    monkeypatch.setattr(verify, "_loaded", spoil)
    with pytest.raises(ModelError, match="differs by" if spoilt == "weights" else "tokenizes differently"):
        write_model(str(base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_none_are_no_agreement():
    nothing = [torch.full((2, 3), float("nan"))]
    with pytest.raises(ModelError, match="nan"):
        verify.refuse_mismatch("it", verify.largest_difference(nothing, nothing), 1.0)
    assert verify.largest_difference([torch.zeros(2, 3)], [torch.zeros(2, 4)]) == float("inf")
