"""What leaves is read by others: it says what the base's files say, and what training changed (kind N)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .models import change_json
from .trial import Trial, case

ROWS = [
    {"messages": [{"role": "user", "content": f"{n}+1?"}, {"role": "assistant", "content": str(n + 1)}]}
    for n in range(4)
]
WRITTEN = ("dtype", "torch_dtype", "transformers_version", "_from_model_config")
"""Keys that may differ: how the type is called, and who wrote the file."""
MACHINE = ("name_or_path", "_name_or_path", "is_local", "local_files_only", "backend")


def read(folder: str | Path, name: str = "config.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / name).read_text(encoding="utf-8"))
    return found


def trained(trial: Trial, model: str, *settings: str, output: str = "run") -> Path:
    data = trial.write("rows.jsonl", *ROWS)
    trial.burnish("sft", "--model", model, "--data", data, "--output", output, "max_steps=1", *settings).succeeded()
    return trial.folder / output / "model"


def same(base: str | Path, saved: Path, *changed: str, name: str = "config.json") -> None:
    """The saved file says what the base's says, but for what training changed."""
    ignored = (*WRITTEN, *changed)
    one, other = read(base, name), read(saved, name)
    lost = {
        key: (value, other.get(key)) for key, value in one.items() if key not in ignored and other.get(key) != value
    }
    assert not lost, f"{saved / name}: of the base and as saved: {lost}"
    added = {key for key in other if key in MACHINE and key not in one}
    assert not added, f"{saved / name} says {sorted(added)}, which no other machine has"


def readable_by_transformers_4(folder: Path) -> None:
    tokenizer = read(folder, "tokenizer_config.json")
    assert tokenizer["tokenizer_class"] not in ("TokenizersBackend", "SentencePieceBackend"), tokenizer
    assert not isinstance(tokenizer.get("extra_special_tokens"), list), "transformers 4 takes its keys"


@case("N-43-rope-theta-lost")
def configuration_and_tokenizer_in_the_form_of_the_base(trial: Trial) -> None:
    base = trial.model("rope_old")
    model = trained(trial, base)
    trial.burnish("export", str(model.parent), "--output", "out").succeeded()
    for folder in (model, trial.folder / "out"):
        same(base, folder)
        assert read(folder)["torch_dtype"] == "float32"
        same(base, folder, name="tokenizer_config.json")
        readable_by_transformers_4(folder)


@case("N-neighbor-new-form")
def a_base_in_the_form_of_transformers_5(trial: Trial) -> None:
    """Keys that transformers 4 reads stand beside those that it does not know."""
    base = trial.folder / "base"
    _copy(trial, "llama3", base)
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 512}
    change_json(base / "config.json", rope_parameters=rope)
    folder = trained(trial, str(base))
    saved = read(folder)
    assert saved["rope_theta"] == 500_000.0
    assert {**saved["rope_scaling"], "rope_theta": 500_000.0} == rope
    assert saved["rope_parameters"] == rope
    same(base, folder)
    readable_by_transformers_4(folder)


@case("N-neighbor-adapter")
def adapters_and_what_they_are_merged_into(trial: Trial) -> None:
    base = trial.model("rope_old")
    adapter = trained(trial, base, "adapter.kind=lora")
    trial.burnish("merge", str(adapter.parent), "--output", "merged").succeeded()
    trial.burnish("export", str(adapter.parent), "--form", "adapter", "--output", "alone").succeeded()
    for folder in (adapter, trial.folder / "merged", trial.folder / "alone"):
        same(base, folder, name="tokenizer_config.json")
        readable_by_transformers_4(folder)
    same(base, trial.folder / "merged")


@case("N-neighbor-added-tokens")
def added_tokens_stand_where_transformers_4_reads_them(trial: Trial) -> None:
    base = trial.folder / "base"
    _copy(trial, "rope_old", base)
    special = {"content": "<|im_start|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    change_json(
        base / "tokenizer_config.json",
        additional_special_tokens=["<|im_start|>"],
        added_tokens_decoder={"257": {**special, "special": True}},
    )
    (base / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>", "additional_special_tokens": []}')
    folder = trained(trial, str(base), "add_tokens=[<|plan|>]")
    changed = ("additional_special_tokens", "added_tokens_decoder")
    same(base, folder, *changed, name="tokenizer_config.json")
    readable_by_transformers_4(folder)
    tokenizer = read(folder, "tokenizer_config.json")
    assert tokenizer["additional_special_tokens"] == ["<|im_start|>", "<|plan|>"]
    assert tokenizer["added_tokens_decoder"]["259"] == {**special, "content": "<|plan|>", "special": True}
    assert read(folder, "special_tokens_map.json")["additional_special_tokens"] == ["<|plan|>"]
    same(base, folder, "vocab_size")
    assert read(folder)["vocab_size"] == 260


@case("N-neighbor-template-key")
def a_template_in_the_tokenizers_configuration_stays_there(trial: Trial) -> None:
    base = trial.folder / "base"
    _copy(trial, "rope_old", base)
    template = (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").unlink()
    change_json(base / "tokenizer_config.json", chat_template=template)
    folder = trained(trial, str(base))
    assert read(folder, "tokenizer_config.json")["chat_template"] == template
    other = trained(trial, str(base), "chat_template=chatml", output="other")
    saved = (other / "chat_template.jinja").read_text()
    assert read(other, "tokenizer_config.json")["chat_template"] == saved != template


def _copy(trial: Trial, name: str, target: Path) -> None:
    import shutil

    shutil.copytree(trial.model(name), target)
