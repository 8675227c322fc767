"""Form of saved files: what the base's own files say is said again, and only what training changed differs.

Runs after `save_pretrained`. transformers 5 writes configuration and tokenizer in a form of its own, which earlier
versions and other tools read wrongly (rope_theta is not found, and a default taken) or not at all (TokenizersBackend, a
list of extra_special_tokens), and adds where the files lay on this machine. So a saved file is the base's own, with the
differences between what transformers writes for the base and for the trained model. Keys that transformers 4 reads are
added where a base has only the new ones. The result is used only if transformers reads the same from it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from burnish.watch.quiet import quiet_transformers

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer_config.json"
SPECIAL_TOKENS, SENTENCEPIECE = "special_tokens_map.json", "tokenizer.model"
_OF_THIS_MACHINE = ("name_or_path", "_name_or_path", "is_local", "local_files_only", "tokenizer_file", "vocab_file")
"""Keys about where files lay when they were loaded."""
_OF_CODE = ("auto_map", "custom_pipelines")
"""Keys that name Python files, which are not saved."""
_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast", "SentencePieceBackend": "PreTrainedTokenizer"}
"""Tokenizer classes of transformers 5 and their names in transformers 4, which both read."""
_LOCAL_ROPE = {"gemma3": "rope_local_base_freq", "modernbert": "local_rope_theta"}
"""Beginning of a model type → transformers 4's name of the base of rotary positions in layers with a window."""
_SAVED = dict[str, Any]


def keep_model_form(folder: Path, model: PreTrainedModel) -> None:
    """Rewrites the model's saved configuration and generation settings in the form of the base's.

    Args:
        folder: the saved model, or an adapter, which has no configuration.
        model: the saved model; the base is where it was loaded from.
    """
    place = str(model.config.name_or_path)
    if (folder / CONFIG).is_file():
        saved = _read(folder / CONFIG)
        candidates = [*_config_forms(place, saved, model.config), _portable(with_legacy_keys(saved)), saved]
        _write(folder / CONFIG, next(form for form in candidates if _reads_as(form, saved, model.config)))
    raw = _base_file(place, GENERATION)
    if raw and (folder / GENERATION).is_file():
        with quiet_transformers():
            before = json.loads(GenerationConfig.from_dict(raw).to_json_string())
        _write(folder / GENERATION, _portable(changed(raw, before, _read(folder / GENERATION))))


def keep_tokenizer_form(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Rewrites the tokenizer's saved configuration in the form of the base's.

    Args:
        folder: the saved tokenizer.
        tokenizer: the saved tokenizer; the base is where it was loaded from.
    """
    place, saved = str(tokenizer.name_or_path), _read(folder / TOKENIZER)
    if (model := _base_path(place, SENTENCEPIECE)) is not None and not (folder / SENTENCEPIECE).exists():
        shutil.copyfile(model, folder / SENTENCEPIECE)  # llama.cpp reads it for some families, and nothing else
    raw = _base_file(place, TOKENIZER)
    before = _written_for_base(place) if raw else {}
    if not raw or not before:
        _write(folder / TOKENIZER, _with_legacy_tokens(saved, saved, {}))
        return
    apart = "extra_special_tokens"  # a list in transformers 5's form: what the base has stays, new ones are added below
    form = changed(raw, *({key: value for key, value in file.items() if key != apart} for file in (before, saved)))
    form = _with_legacy_tokens(form, saved, before)
    if "added_tokens_decoder" in form:
        form["added_tokens_decoder"] |= {
            str(number): {"content": token.content, **_flags(token)}
            for number, token in tokenizer.added_tokens_decoder.items()
            if str(number) not in form["added_tokens_decoder"]
        }
    if "chat_template" in form and tokenizer.chat_template is not None:
        form["chat_template"] = _template_value(tokenizer.chat_template)
    _write(folder / TOKENIZER, form)
    if (tokens := _base_file(place, SPECIAL_TOKENS)) is not None:
        _write(folder / SPECIAL_TOKENS, _special_tokens(tokens, form, before, saved))


def changed(raw: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> _SAVED:
    """The base's own file with what training changed.

    Args:
        raw: the base's file.
        before: what transformers writes for the base.
        after: what it writes for the trained model. Keys of which both say the same stay as in `raw`.
    """
    result = {key: value for key, value in raw.items() if key not in before or key in after}
    for key, value in after.items():
        if key in before and before[key] == value:
            continue
        if isinstance(value, dict) and isinstance(before.get(key), dict) and isinstance(raw.get(key), dict):
            result[key] = changed(raw[key], before[key], value)
        else:
            result[key] = value
    return result


def with_legacy_keys(config: Mapping[str, Any]) -> _SAVED:
    """A configuration with the keys that transformers 4 reads beside those of transformers 5: rope_theta, rope_scaling,
    partial_rotary_factor, torch_dtype; in nested configurations too."""
    form = {key: with_legacy_keys(value) if key.endswith("_config") and _is_config(value) else value
            for key, value in config.items()}  # fmt: skip
    dtype = form.get("dtype") or form.get("torch_dtype")
    if dtype is not None:
        form |= {"dtype": dtype, "torch_dtype": dtype}
    rope = form.get("rope_parameters")
    if isinstance(rope, dict):
        by_layer = {name: values for name, values in rope.items() if isinstance(values, dict)}
        main = by_layer.get("full_attention", {}) if by_layer else rope
        legacy = dict(_legacy_rope(main))
        window = by_layer.get("sliding_attention", {}).get("rope_theta")
        local = next((key for kind, key in _LOCAL_ROPE.items() if str(form.get("model_type")).startswith(kind)), None)
        if window is not None and local is not None:
            legacy[local] = window
        form = {**legacy, **form}
    return form


def _is_config(value: object) -> bool:
    return isinstance(value, dict) and ("model_type" in value or "rope_parameters" in value)


def _legacy_rope(rope: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    apart = ("rope_theta", "partial_rotary_factor")
    yield from ((key, rope[key]) for key in apart if rope.get(key) is not None)
    rest = {key: value for key, value in rope.items() if key not in apart}
    if rest.get("rope_type", "default") != "default":
        yield "rope_scaling", rest


def _config_forms(place: str, saved: _SAVED, config: PretrainedConfig) -> Iterator[_SAVED]:
    """Forms of a saved configuration after the base's, the best first; none if the base's cannot be read any more."""
    raw = _base_file(place, CONFIG)
    if raw is None:
        return
    with quiet_transformers():
        try:
            base = AutoConfig.from_pretrained(place)
        except (OSError, ValueError):
            return
    before = json.loads(base.to_json_string())
    if before.get("model_type") != saved.get("model_type"):  # the language model of a larger one
        before, raw = before.get("text_config") or {}, raw.get("text_config") or {}
        if before.get("model_type") != config.model_type or not raw:
            return
        raw = {"architectures": saved.get("architectures"), "model_type": config.model_type, **raw}
    form = changed(raw, before, saved)
    yield _portable(with_legacy_keys(form))
    yield _portable(form)


def _portable(form: Mapping[str, Any]) -> _SAVED:
    return {key: value for key, value in form.items() if key not in (*_OF_THIS_MACHINE, *_OF_CODE)}


def _reads_as(form: Mapping[str, Any], saved: Mapping[str, Any], config: PretrainedConfig) -> bool:
    """Whether transformers reads the same configuration from a form as from what it saved."""
    if form is saved:
        return True
    with quiet_transformers():
        try:
            one, other = (type(config).from_dict(json.loads(json.dumps(file))).to_dict() for file in (form, saved))
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
    ignored = ("transformers_version", *_OF_THIS_MACHINE, *_OF_CODE)
    return {k: v for k, v in one.items() if k not in ignored} == {k: v for k, v in other.items() if k not in ignored}


def _with_legacy_tokens(form: Mapping[str, Any], saved: Mapping[str, Any], before: Mapping[str, Any]) -> _SAVED:
    """A tokenizer's configuration with class and further special tokens as transformers 4 writes them."""
    form = _portable(form)
    if (name := form.get("tokenizer_class")) in _CLASSES:
        form["tokenizer_class"] = _CLASSES[name]
    own = form.get("additional_special_tokens") or []
    if isinstance(form.get("extra_special_tokens"), list):
        own = [*own, *form.pop("extra_special_tokens")]
    further = [*own, *(token for token in _new_tokens(saved, before) if token not in map(_content, own))]
    return {**form, "additional_special_tokens": further} if further else form


def _new_tokens(saved: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Special tokens that training added."""
    present = [_content(token) for token in before.get("extra_special_tokens") or ()]
    return [text for text in map(_content, saved.get("extra_special_tokens") or ()) if text not in present]


def _content(token: object) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _special_tokens(
    raw: Mapping[str, Any], form: Mapping[str, Any], before: Mapping[str, Any], saved: Mapping[str, Any]
) -> _SAVED:
    """The base's special_tokens_map.json with what training changed."""
    result = dict(raw)
    for key, value in saved.items():
        if key.endswith("_token") and before.get(key) != value:
            result[key] = value
    if new := _new_tokens(saved, before):
        own = result.get("additional_special_tokens") or []
        result["additional_special_tokens"] = [*own, *(token for token in new if token not in map(_content, own))]
    return result


def _flags(token: Any) -> dict[str, bool]:
    return {name: bool(getattr(token, name)) for name in ("lstrip", "normalized", "rstrip", "single_word", "special")}


def _template_value(template: str | Mapping[str, str]) -> object:
    """A chat template as tokenizer_config.json holds it: a text, or a list of named ones."""
    if isinstance(template, str):
        return template
    return [{"name": name, "template": text} for name, text in template.items()]


def _written_for_base(place: str) -> _SAVED:
    """What transformers writes for the tokenizer of the base; {}: it cannot be read any more."""
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        try:
            AutoTokenizer.from_pretrained(place).save_pretrained(folder)
        except (OSError, ValueError):
            return {}
        return _read(Path(folder) / TOKENIZER)


def _base_file(place: str, name: str) -> _SAVED | None:
    """Content of a JSON file of the base; None: it has none, or cannot be reached any more."""
    path = _base_path(place, name)
    return None if path is None else _read(path)


def _base_path(place: str, name: str) -> Path | None:
    """Path of a file of the base; None: it has none, or cannot be reached any more."""
    if not place:  # made in memory
        return None
    path = Path(place) / name
    if not Path(place).is_dir():
        with quiet_transformers():
            try:
                found = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
            except OSError:  # it was loaded from there, and is out of reach now
                return None
        if found is None:
            return None
        path = Path(found)
    return path if path.is_file() else None


def _read(path: Path) -> _SAVED:
    read: _SAVED = json.loads(path.read_text(encoding="utf-8"))
    return read


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
