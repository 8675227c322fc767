"""Integrity of a model folder: whole files, a tokenizer that gives text back, a row for every token, finite weights.

Checked before anything else, since transformers takes most of this as it is: without tokenizer.json it makes a
tokenizer without vocabulary, and a weight that is NaN shows in the first loss, or never.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors import safe_open
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from burnish.errors import ModelError
from burnish.model.quantization import scales

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a Git LFS pointer."""
_READ = (".json", ".jinja", ".model", ".txt")
"""Endings of the files beside the weights that are read from a model folder."""
_OBJECTS = ("config.json", "adapter_config.json", "tokenizer_config.json", "generation_config.json")
"""Files that are one JSON object each."""
_WEIGHTS, _INDEX, _ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
"""Files of weights as transformers looks for them, in this order: the one file, the index of several; an adapter's."""
_EMBEDDINGS = tuple(
    f"{name}{base}.weight" for name in ("embed_tokens", "embed_in", "wte") for base in ("", ".base_layer")
)
"""Endings of the names of embeddings that an adapter stores whole."""
_SENTENCE = "The quick brown fox jumps over 13 lazy dogs; is it so?"
"""Probe sentence: the letters and some digits and marks of plain English."""
_MAX_WORDS = 64
"""Number of a tokenizer's own words that are tried if it does not know those of the sentence."""
_OF_TEXT = ("bos_token", "eos_token", "unk_token")
"""Names of the special tokens that text is read as; pad_token, image_token and others stand for something else."""


def check_files(folder: Path) -> None:
    """Checks the files of a model's or adapter's folder, without reading weights.

    Raises:
        ModelError: a file is a Git LFS pointer, broken, cut off, or named by the index and missing.
    """
    if not folder.is_dir():
        return
    for path in sorted(path for path in folder.iterdir() if path.suffix in _READ and path.is_file()):
        _check_pointer(path)
        if path.name in _OBJECTS or path.name == _INDEX:
            _check_object(path)
    for path in _weight_files(folder):
        _check_pointer(path)
        _check_length(path)


def _weight_files(folder: Path) -> list[Path]:
    """Files of weights that are read: others that lie in the folder, such as shards of an earlier save, are not.

    Raises:
        ModelError: the index names a file that is missing.
    """
    single, adapter = folder / _WEIGHTS, folder / _ADAPTER
    whole = [single] if single.is_file() else _shards(folder) if (folder / _INDEX).is_file() else []
    return [*whole, adapter] if adapter.is_file() else whole


def _check_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise _pointer(path)


def _pointer(path: Path) -> ModelError:
    return ModelError(
        given=f"{path} is a Git LFS pointer, not the file itself",
        rule="a model folder has the files themselves; git without LFS fetches pointers in their place",
        remedy=f"run `git lfs install` and `git lfs pull` in {path.parent}, or fetch the model with `hf download`",
    )


def _check_object(path: Path) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fault = "" if isinstance(found, dict) else f"it holds a {type(found).__name__}"
    except ValueError as error:
        fault = " ".join(str(error).split())
    if fault:
        raise ModelError(
            given=f"{path} cannot be read: {fault}",
            rule="it is one JSON object, as save_pretrained writes it",
            remedy="fetch the file again, or save the model there again with save_pretrained",
        )


def _shards(folder: Path) -> list[Path]:
    named = json.loads((folder / _INDEX).read_text(encoding="utf-8")).get("weight_map") or {}
    if lacking := sorted(name for name in set(named.values()) if not (folder / name).is_file()):
        raise ModelError(
            given=f"{folder} lacks {lacking[0]}" + (f" and {len(lacking) - 1} others" if len(lacking) > 1 else ""),
            rule=f"every file that {_INDEX} names is in the folder; it has a part of the weights",
            remedy="fetch the missing files again",
        )
    return [folder / name for name in sorted(set(named.values()))]


def _check_length(path: Path) -> None:
    """Compares the length of a safetensors file with that in its header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length:
            raise _cut_off(path, f"it has {size:,} bytes, and its header alone {length:,}")
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _cut_off(path, f"its header cannot be read ({' '.join(str(error).split())[:100]})") from error
    if size != 8 + length + end:
        raise _cut_off(path, f"it has {size:,} bytes, and by its header {8 + length + end:,}")


def _cut_off(path: Path, reason: str) -> ModelError:
    return ModelError(
        given=f"{path} is cut off or damaged: {reason}",
        rule="weights are whole safetensors files",
        remedy="fetch the file again",
    )


def check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that text comes back from its tokens.

    White space, case and Unicode forms may differ. A tokenizer that has no words of plain English (it says so by its
    unknown token, or less than half of the sentence comes back) must give its own words back.

    Raises:
        ModelError: the text that comes back differs.
    """
    sentence, known = _round_trip(tokenizer, _SENTENCE)
    if _same(sentence, _SENTENCE):
        return
    other = not known or len(sentence) < len(_SENTENCE) / 2
    words = _own_words(tokenizer) if other else []
    if words and all(_same(_round_trip(tokenizer, word)[0], word) for word in words):
        return
    folder = Path(name)
    lacking = "; the folder has no tokenizer.json" if folder.is_dir() and _has_no_vocabulary(folder) else ""
    raise ModelError(
        given=f"the tokenizer of {name} does not give a sentence back: of {_SENTENCE!r} comes {sentence!r}{lacking}",
        rule="the tokens of a text hold the whole text; transformers makes an empty tokenizer where the vocabulary is "
        "missing",
        remedy="fetch tokenizer.json and tokenizer_config.json of the model again, or save its tokenizer there with "
        "save_pretrained",
    )


def _has_no_vocabulary(folder: Path) -> bool:
    return not (folder / "tokenizer.json").is_file()


def _round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, bool]:
    """The text that comes back, and whether all of it was known: no token of it is the unknown one."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return str(tokenizer.decode(ids)), tokenizer.unk_token_id not in ids


def _own_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Some words of the vocabulary, special tokens excluded."""
    added = tokenizer.added_tokens_decoder
    ids = sorted(token for token in tokenizer.get_vocab().values() if token not in added)
    words = [str(tokenizer.decode([token])) for token in ids[:: max(1, len(ids) // _MAX_WORDS)]]
    return [word for word in words if word.strip() and "\ufffd" not in word]


def _same(one: str, other: str) -> bool:
    """Whether texts are equal up to white space, case and Unicode form."""
    first, second = ("".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (one, other))
    return first == second


def check_rows(name: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Checks that every token of text has a row of the embedding, see `rows_needed`.

    Args:
        name: the model, for the message.
        tokenizer: with added and special tokens.
        rows: rows of the embedding; more than tokens are padding.

    Raises:
        ModelError: a token has no row.
    """
    outside = {token: text for text, token in _tokens_of_text(tokenizer) if token >= rows}
    if outside:
        largest = max(outside)
        raise ModelError(
            given=f"the tokenizer of {name} has {len(outside):,} tokens outside the model, such as "
            f"{outside[largest]!r} with the id {largest}; the model's embedding has {rows:,} rows",
            rule="every token of the tokenizer has a row of the embedding, added and special tokens too",
            remedy="give the model the tokenizer that it was trained with, or grow it: "
            f"resize_token_embeddings({largest + 1}) and save_pretrained",
        )


def rows_needed(tokenizer: PreTrainedTokenizerBase) -> int:
    """Rows of an embedding for all tokens of text. Special tokens that no text is read as need none: those of padding
    and masks, which transformers adds by itself, and of other inputs (image_token of Gemma 3 1B)."""
    return max((token for _, token in _tokens_of_text(tokenizer)), default=-1) + 1


def adapter_rows(folder: Path, stored: PeftConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Rows that an adapter needs in the embedding of its base: those of all tokens of text, and those that it trained
    or stores itself, padding too."""
    layers: Any = getattr(stored, "trainable_token_indices", None) or []  # of every layer, or of layers by name
    trained = [row for rows in layers.values() for row in rows] if isinstance(layers, dict) else layers
    with safe_open(folder / _ADAPTER, framework="pt") as file:
        embeddings = [key for key in file.keys() if key.endswith(_EMBEDDINGS)]  # noqa: SIM118
        whole = [file.get_slice(key).get_shape()[0] for key in embeddings]
    return max(rows_needed(tokenizer), *whole, *(row + 1 for row in trained), 0)


def _tokens_of_text(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, int]]:
    """Tokens of text, with their ids."""
    named = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if key.endswith("_token")}
    exempt = {value for key, value in named.items() if key not in _OF_TEXT}
    exempt -= {value for key, value in named.items() if key in _OF_TEXT}
    return ((text, token) for text, token in tokenizer.get_vocab().items() if text not in exempt)


def check_generation_config(name: str, settings: GenerationConfig, rows: int) -> None:
    """Checks that the tokens of the generation settings are tokens of the model.

    Raises:
        ModelError: one is outside.
    """
    for key in ("eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id"):
        value: Any = vars(settings).get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if key != "eos_token_id":
            ids = [token for token in ids if token >= 0]  # -1 stands for none in old files
        if outside := [token for token in ids if not 0 <= token < rows]:
            raise ModelError(
                given=f"generation_config.json of {name} has the {key} {outside[0]}, and the model {rows:,} tokens",
                rule="ids in generation_config.json are those of the model's tokens, from 0",
                remedy=f"correct {key} in generation_config.json, or fetch the file that belongs to the model",
            )


def num_rows(config: PretrainedConfig) -> int | None:
    """Rows of the embedding by the configuration; None: it does not say."""
    text = config.get_text_config(decoder=True)
    rows = text.to_dict().get(text.attribute_map.get("vocab_size", "vocab_size"))
    return rows if isinstance(rows, int) else None


def check_weights(name: str, model: nn.Module) -> None:
    """Checks that all weights are finite, scales of quantized ones too; it reads them once.

    Raises:
        ModelError: a weight is infinite or no number.
    """
    _refuse_infinite(name, (*model.named_parameters(), *scales(model)))


def check_adapter_weights(path: Path) -> None:
    """Checks that all weights of an adapter's safetensors file are finite.

    Raises:
        ModelError: a weight is infinite or no number.
    """
    with safe_open(path, framework="pt") as file:
        _refuse_infinite(str(path), ((key, file.get_tensor(key)) for key in file.keys()))  # noqa: SIM118


def _refuse_infinite(name: str, named: Iterable[tuple[str, Tensor]]) -> None:
    spoiled = [key for key, tensor in named if not _is_finite(tensor.detach())]
    if spoiled:
        others = f" and {len(spoiled) - 1} others" if len(spoiled) > 1 else ""
        raise ModelError(
            given=f"{spoiled[0]}{others} of {name} is not finite: it has values that are infinite or no number (NaN)",
            rule="every weight is a finite number; all that is computed with another one is NaN too",
            remedy="fetch the weights again, or name a checkpoint from before the training diverged",
        )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite. The extremes are NaN if any number is, and they are read in one pass."""
    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return True
    if tensor.dtype.itemsize == 1:  # float8, whose extremes torch does not compute
        tensor = tensor.float()
    lowest, highest = torch.aminmax(tensor)
    return bool(torch.isfinite(lowest) & torch.isfinite(highest))


def require_finite(computed: str, name: str, values: Tensor | float) -> None:
    """Checks results that a command computed with a model.

    Args:
        computed: what they are, for the message, such as "loss".
        name: the model, for the message.
        values: the results, any shape.

    Raises:
        ModelError: one is infinite or no number.
    """
    if not bool(torch.as_tensor(values, dtype=torch.float64).isfinite().all()):
        raise ModelError(
            given=f"the {computed} of {name} is not finite: infinite or no number (NaN)",
            rule="what a model computes are finite numbers; its weights are finite, so a sum or product was too large",
            remedy="compute in a wider type (dtype=float32), or name a checkpoint from before the training diverged",
        )
