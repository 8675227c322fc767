"""Runs that give a base model the tokens of a template: what is saved is whole, in plain transformers and peft."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM, PreTrainedModel

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.runs.checkpoint import latest_checkpoint, load_checkpoint
from burnish.watch.quiet import quiet_transformers
from tests.plain import plain_loss

HIDDEN = 32
LORA = {"kind": "lora", "rank": 4}


@dataclass(frozen=True)
class Case:
    """A base model, and what of it is trained."""

    tied: bool
    spare: int
    """Rows without tokens."""
    adapter: dict[str, object]

    @property
    def rows(self) -> int:
        """Of the trained model."""
        return len(make_tokenizer()) + max(self.spare, 2)


CASES = {
    "full, tied, grown": Case(tied=True, spare=0, adapter={"kind": "full"}),
    "full, untied, spare": Case(tied=False, spare=7, adapter={"kind": "full"}),
    "lora, tied, grown": Case(tied=True, spare=0, adapter=LORA),
    "lora, tied, spare": Case(tied=True, spare=7, adapter=LORA),
    "lora, untied, grown": Case(tied=False, spare=1, adapter=LORA),
    "lora, untied, spare": Case(tied=False, spare=7, adapter=LORA),
}
ADAPTERS = {name: case for name, case in CASES.items() if case.adapter is LORA}


def train(folder: Path, case: Case, **settings: object) -> burnish.RunResult:
    """A run in `folder`/run on a base model without chat tokens in `folder`/base."""
    config = make_model(0, hidden_size=HIDDEN, layers=1).config
    config.tie_word_embeddings, config.vocab_size = case.tied, config.vocab_size + case.spare
    torch.manual_seed(0)
    with quiet_transformers():
        LlamaForCausalLM(config).save_pretrained(folder / "base")
    make_tokenizer().save_pretrained(folder / "base")
    write_rows(folder / "train.jsonl", generate(seed=1, count=64))
    write_rows(folder / "test.jsonl", generate(seed=2, count=8))
    defaults = {"eval_data": str(folder / "test.jsonl"), "max_steps": 6, "sequences_per_step": 8, "learning_rate": 1e-2}
    return burnish.sft(
        model=str(folder / "base"),
        data=str(folder / "train.jsonl"),
        output=str(folder / "run"),
        chat_template="chatml",
        add_tokens="template",
        adapter=case.adapter,
        **{**defaults, **settings},
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of finished runs, by the names of their cases."""
    folders = {name: tmp_path_factory.mktemp("case") for name in CASES}
    for name, folder in folders.items():
        train(folder, CASES[name])
    return folders


def held_out(folder: Path) -> list[float]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [figures["eval/loss"] for figures in map(json.loads, lines) if "eval/loss" in figures]


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    return model.eval()(torch.tensor([[5, 260, 9, 261, 30, 260]])).logits


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_has_the_loss_of_training(runs, name):
    before, after = held_out(runs[name])
    assert after < before
    saved = plain_loss(runs[name] / "run" / "model", runs[name] / "test.jsonl", end_token="<|im_end|>")
    assert saved == pytest.approx(after, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_saved_tokenizer_ends_turns_with_one_token_where_generation_stops(runs, name):
    folder = runs[name] / "run" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
    assert (ids.count(260), ids.count(261)) == (2, 2)
    assert tokenizer.eos_token == make_tokenizer().eos_token
    assert set(GenerationConfig.from_pretrained(folder).eos_token_id) == {261, tokenizer.eos_token_id}


@pytest.mark.parametrize("name", [name for name in CASES if name not in ADAPTERS])
def test_the_sizes_of_a_whole_model_agree(runs, name):
    model = AutoModelForCausalLM.from_pretrained(runs[name] / "run" / "model")
    sizes = {len(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    assert sizes == {model.config.vocab_size} == {CASES[name].rows}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_has_the_new_rows_and_no_others(runs, name):
    weights = load_file(runs[name] / "run" / "model" / "adapter_model.safetensors")
    rows = {key: tensor.shape for key, tensor in weights.items() if "lora_" not in key}
    assert len(rows) == (1 if CASES[name].tied else 2)
    assert set(rows.values()) == {(2, HIDDEN)}


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_way_of_loading_an_adapter_gives_the_same(runs, name, tmp_path):
    """peft's own way, the steps by hand, merged, and merged and saved."""
    folder = runs[name] / "run" / "model"
    wanted = logits(AutoPeftModelForCausalLM.from_pretrained(folder))
    assert wanted.shape[-1] == CASES[name].rows
    tokenizer, base = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(runs[name] / "base")
    if len(tokenizer) > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(len(tokenizer))
    by_hand = PeftModel.from_pretrained(base, folder)
    assert torch.allclose(logits(by_hand), wanted, rtol=0, atol=1e-6)
    merged = by_hand.merge_and_unload()
    assert torch.allclose(logits(merged), wanted, rtol=0, atol=1e-5)
    merged.save_pretrained(tmp_path)
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["lora, tied, grown", "lora, untied, spare"])
def test_muon_leaves_the_new_rows_to_adamw(tmp_path, name):
    """They are rows of an embedding, not a matrix of a layer."""
    run = train(tmp_path, CASES[name], optimizer="muon", max_steps=1)
    checkpoint = latest_checkpoint(run.folder).path
    assert checkpoint is not None
    states = load_checkpoint(checkpoint, verified=True).tensors
    shapes = [tuple(tensor.shape) for key, tensor in states.items() if key.startswith("roles/policy/optimizers/1/")]
    assert shapes.count((2, HIDDEN)) == (2 if CASES[name].tied else 4), "AdamW's two averages for each of them"
    assert (2, HIDDEN) not in [
        tuple(t.shape) for key, t in states.items() if key.startswith("roles/policy/optimizers/0/")
    ]
