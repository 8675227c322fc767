"""Form of saved files: for several families, the saved files say what the base's said, in both forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from burnish.builtin.tiny import make_tokenizer
from burnish.export.base_form import changed, keep_tokenizer_form, with_legacy_keys
from burnish.export.export import export
from burnish.model.load import load_policy

SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.3",
    "eos_token_id": 256,
    "bos_token_id": 256,
    "pad_token_id": 256,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LOCAL = ["sliding_attention", "full_attention"]
GEMMA3 = {"head_dim": 8, "rope_theta": 1e6, "rope_local_base_freq": 10_000.0, "sliding_window": 8, "layer_types": LOCAL}
BASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "rope_theta": 500_000.0},
    "llama-3": {"model_type": "llama", "rope_theta": 500_000.0, "rope_scaling": LLAMA3},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "sliding_window": 131_072, "use_sliding_window": False},
    "qwen3-yarn": {
        "model_type": "qwen3",
        "rope_theta": 1e6,
        "rope_scaling": YARN,
        "head_dim": 8,
        "max_window_layers": 2,
    },
    "mistral": {"model_type": "mistral", "rope_theta": 1e6, "sliding_window": 16},
    "phi": {"model_type": "phi", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
    "gemma3": {"model_type": "gemma3_text", **GEMMA3},
    "olmo3": {"model_type": "olmo3", "rope_theta": 500_000.0, "sliding_window": 8, "layer_types": LOCAL},
}
"""Configurations as transformers 4 wrote them."""
TOKENIZER = {
    "add_bos_token": False,
    "additional_special_tokens": ["<|user|>"],
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|end|>",
    "model_max_length": 1024,
    "pad_token": "<|end|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<|end|>",
}


def write_base(folder: Path, name: str) -> dict[str, Any]:
    """Writes a model whose configuration is in the form of transformers 4; returns the configuration."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SIZES | BASES[name]))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.save_pretrained(folder)
    config = {**SIZES, **BASES[name], "architectures": [type(model).__name__], "custom_key": [1, {"a": 2}]}
    (folder / "config.json").write_text(json.dumps(config))
    make_tokenizer().save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    return config


def exported(base: Path, folder: Path, **options: Any) -> dict[str, Any]:
    folder.mkdir()
    export(load_policy(str(base), **options), folder, template=None, end_tokens=[256])
    return read(folder, "config.json")


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


@pytest.mark.parametrize("name", BASES)
def test_the_saved_configuration_is_the_base_s(tmp_path, name):
    base = write_base(tmp_path / "base", name)
    saved = exported(tmp_path / "base", tmp_path / "saved")
    assert saved == {**base, "dtype": "bfloat16"}
    assert read(tmp_path / "saved", "tokenizer_config.json") == TOKENIZER
    again = exported(tmp_path / "saved", tmp_path / "again")
    assert again == saved, "of a second stage too"


@pytest.mark.parametrize("name", BASES)
def test_a_base_of_transformers_5_gets_the_keys_of_4(tmp_path, name):
    config = write_base(tmp_path / "base", name)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "base")
    assert "rope_theta" not in read(tmp_path / "base", "config.json")
    saved = exported(tmp_path / "base", tmp_path / "saved")
    keys = ("rope_theta", "rope_scaling", "rope_local_base_freq", "torch_dtype")
    assert {key: saved.get(key) for key in keys} == {key: config.get(key) for key in keys}
    one, other = (AutoConfig.from_pretrained(tmp_path / place).to_dict() for place in ("base", "saved"))
    assert {k: v for k, v in one.items() if k != "_name_or_path"} == {
        k: v for k, v in other.items() if k != "_name_or_path"
    }


def test_only_what_training_changed_differs(tmp_path):
    base = write_base(tmp_path / "base", "llama-3")
    saved = exported(tmp_path / "base", tmp_path / "saved", add_tokens=("<more>",), dtype="float32")
    assert saved == {**base, "dtype": "float32", "torch_dtype": "float32", "vocab_size": 261}
    tokenizer = read(tmp_path / "saved", "tokenizer_config.json")
    assert tokenizer == {**TOKENIZER, "additional_special_tokens": ["<|user|>", "<more>"]}


def test_a_base_that_is_gone_leaves_readable_files(tmp_path):
    write_base(tmp_path / "base", "qwen2")
    policy = load_policy(str(tmp_path / "base"))
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    policy.causal_lm.config._name_or_path = policy.tokenizer.name_or_path = ""
    (tmp_path / "saved").mkdir()
    export(policy, tmp_path / "saved", template=None, end_tokens=[256])
    assert read(tmp_path / "saved", "config.json")["rope_theta"] == 1e6
    tokenizer = read(tmp_path / "saved", "tokenizer_config.json")
    assert tokenizer["tokenizer_class"] == "Qwen2Tokenizer"
    assert not {"is_local", "local_files_only", "name_or_path"} & tokenizer.keys()


_json = st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(0, 3), max_size=6)


@given(raw=_json, before=_json)
def test_without_a_change_the_file_is_the_base_s(raw, before):
    assert changed(raw, before, before) == raw


@given(raw=_json, before=_json, after=_json)
def test_changes_are_those_of_training(raw, before, after):
    result = changed(raw, before, after)
    for key in "abcdef":
        if before.get(key, "none") != after.get(key, "none"):
            assert result.get(key, "none") == after.get(key, "none")
        else:
            assert result.get(key, "none") == raw.get(key, "none")


def test_nested_configurations_get_the_keys_too():
    text = {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}, "dtype": "bfloat16"}
    nested = with_legacy_keys({"model_type": "mllama", "text_config": text})
    assert nested["text_config"]["rope_theta"] == 7.0
    assert nested["text_config"]["torch_dtype"] == "bfloat16"
    assert "rope_theta" not in nested


READER = """
import json, sys
from transformers import AutoConfig, AutoTokenizer
for folder in sys.argv[1:]:
    config, tokenizer = AutoConfig.from_pretrained(folder).to_dict(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a <|user|> <more>").input_ids
    print(json.dumps([config, type(tokenizer).__name__, tokenizer.special_tokens_map, ids]))
"""


@pytest.mark.slow
def test_transformers_4_reads_what_was_saved(tmp_path):
    """In an environment of its own, without torch."""
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "transformers>=4.57,<5"]
    if subprocess.run(install, check=False, capture_output=True).returncode:
        pytest.skip("pip reaches no registry")
    folders = []
    for name in BASES:
        write_base(tmp_path / name, name)
        exported(tmp_path / name, tmp_path / f"{name}-saved")
        AutoModelForCausalLM.from_pretrained(tmp_path / name).save_pretrained(tmp_path / f"{name}-5")
        (tmp_path / f"{name}-5" / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
        (tmp_path / f"{name}-5" / "tokenizer.json").write_bytes((tmp_path / name / "tokenizer.json").read_bytes())
        exported(tmp_path / f"{name}-5", tmp_path / f"{name}-5-saved")
        folders += [tmp_path / name, tmp_path / f"{name}-saved", tmp_path / f"{name}-5-saved"]
    run = subprocess.run([str(python), "-c", READER, *map(str, folders)], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    for start, name in zip(range(0, len(lines), 3), BASES, strict=True):
        base, *others = lines[start : start + 3]
        for config, *tokenizer in others:
            assert tokenizer == base[1:], name
            lost = {k: (v, config.get(k)) for k, v in base[0].items() if config.get(k) != v is not None}
            assert not lost.keys() - {"_name_or_path", "transformers_version", "custom_key", "rope_scaling"}, (
                name,
                lost,
            )
            scaling = config.get("rope_scaling") or {}
            assert (base[0].get("rope_scaling") or {}).items() <= scaling.items(), name


def test_special_tokens_of_a_base_in_the_form_of_transformers_5_stay(tmp_path):
    """A list of extra_special_tokens in the base's file, and what is added by training."""
    base = tmp_path / "base"
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<start>", "<stop>"]})
    tokenizer.save_pretrained(base)
    assert "extra_special_tokens" in json.loads((base / "tokenizer_config.json").read_text())
    loaded = AutoTokenizer.from_pretrained(base)
    loaded.add_tokens(["<more>"], special_tokens=True)
    loaded.save_pretrained(tmp_path / "saved")
    keep_tokenizer_form(tmp_path / "saved", loaded)
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert {"<start>", "<stop>"} <= set(again.all_special_tokens)
    assert set(loaded.all_special_tokens) <= set(again.all_special_tokens)


def test_the_sentencepiece_model_of_a_base_is_kept(tmp_path):
    """llama.cpp converts some families by it alone."""
    base = tmp_path / "base"
    make_tokenizer().save_pretrained(base)
    (base / "tokenizer.model").write_bytes(b"pieces")
    loaded = AutoTokenizer.from_pretrained(base)
    loaded.save_pretrained(tmp_path / "saved")
    keep_tokenizer_form(tmp_path / "saved", loaded)
    assert (tmp_path / "saved" / "tokenizer.model").read_bytes() == b"pieces"
