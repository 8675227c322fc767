"""Real chat templates, read from the installed trl at test time, each with a tokenizer that has its control tokens."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_CONTROL = re.compile(
    r"<\|[^|<>\s'\"{}]+\|>|<｜[^<>\s'\"{}]+?｜>|<\|[^<>\s'\"{}|]+>|<[^<>\s'\"{}|]+\|>|</?[a-z_]+>|\[/?[A-Z_]+\]"
)


def _folder() -> Path | None:
    spec = find_spec("trl")
    return Path(spec.origin).parent / "chat_templates" if spec is not None and spec.origin else None


def names() -> list[str]:
    folder = _folder()
    return sorted(path.stem for path in folder.glob("*.jinja")) if folder is not None else []


@lru_cache
def source(name: str) -> str:
    folder = _folder()
    assert folder is not None, "only called with names that were found"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


@lru_cache
def tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Byte-level tokenizer with the template's control strings as tokens; tags like <think> are not special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    marks = sorted(set(_CONTROL.findall(source(name))))
    tags = [mark for mark in marks if re.fullmatch(r"</?[a-z_]+>", mark) and "turn" not in mark and "end" not in mark]
    core.add_special_tokens(["<s>", "</s>", *(mark for mark in marks if mark not in tags)])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
