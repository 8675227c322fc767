"""Tokenizers for the tests of data preparation: small ones built here, and a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

SHARED = Path(__file__).parents[3] / "shared"
CORPUS = ["hello there big world", "what is two and two", "the answer is four   spaces", "user assistant system"]


def _byte_level(corpus: list[str], *, trim_offsets: bool, prefix_space: bool = False) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=trim_offsets, add_prefix_space=prefix_space)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    core.train_from_iterator(corpus * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


def _llama_style() -> PreTrainedTokenizerFast:
    """Sentencepiece-like: "▁" before every text, unknown characters as bytes, a begin token <s>."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    pieces += ["▁t", "he", "▁the", "in", "er"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("e", "r")]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def byte_level() -> PreTrainedTokenizerBase:
    return _byte_level(CORPUS, trim_offsets=False)


@pytest.fixture(scope="session")
def newline_merging() -> PreTrainedTokenizerBase:
    """Tokenizer with tokens of several newlines."""
    return _byte_level(["a\n\n\n\nb\n\n\n"], trim_offsets=False)


@pytest.fixture(scope="session")
def llama_style() -> PreTrainedTokenizerBase:
    return _llama_style()


@pytest.fixture(scope="session")
def stories() -> PreTrainedTokenizerBase:
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("the shared model is not here")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def trimmed() -> PreTrainedTokenizerBase:
    """Tokenizer `byte_level` whose offsets exclude white space, as in GPT-2."""
    return _byte_level(CORPUS, trim_offsets=True)


@pytest.fixture(scope="session", params=["byte_level", "trimmed", "prefixed", "llama_style", "stories"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Each kind of tokenizer in turn."""
    if request.param == "prefixed":
        return _byte_level(CORPUS, trim_offsets=True, prefix_space=True)
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def gsm8k() -> str:
    path = SHARED / "data" / "gsm8k" / "train.jsonl"
    if not path.is_file():
        pytest.skip("the shared data is not here")
    return str(path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes rows to a .jsonl file and returns its path."""

    def write_rows(*rows: object, name: str = "rows.jsonl") -> str:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(file)

    return write_rows
