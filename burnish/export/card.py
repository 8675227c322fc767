"""Model card: the README.md of a model's folder, with its origin, recipe, data and metrics.

Used by `write`. A card may be published: paths of this machine are shortened to their
last part, and no row of the data is shown.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import peft
import torch
import transformers
import yaml
from transformers.utils import cached_file

from burnish.hub import Refusal, look_up
from burnish.model.adapters.initial import halves
from burnish.model.open import ModelRef
from burnish.model.place import reading
from burnish.model.quantization import BASE, read_base
from burnish.model.settings import ValueHeadConfig

CARD = "README.md"
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_PATH = re.compile(r"(?<![\w.:/])(?:~|\.{1,2})?/(?:[^\s/'\"]+/)*([^\s/'\"]+)")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Facts about the run of a model, read from its folder by `runs.facts`."""

    methods: tuple[str, ...]
    """Methods of its stages, such as sft, those of the runs before it first."""
    model: str
    """The model before all of this training: a hub name or a path."""
    recipe: str
    """Text of recipe.yaml, every value with its origin."""
    data: tuple[str, ...]
    """Counts of the data, one line per data set."""
    metrics: tuple[tuple[str, float, float], ...]
    """Name, first and last value of the training loss and of every evaluation metric."""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """Facts about an adapter, read from its files."""

    kind: str
    """Its method's usual name: LoRA, DoRA, IA3, …"""
    tags: tuple[str, ...]
    size: str
    """Such as rank 16, alpha 32; empty: the method has no such numbers."""
    bits: int | None
    """Bits of its base's weights in training; None: unquantized."""
    parts: tuple[str, ...] = ()
    """Adapters that were combined into it; empty: it was trained."""

    def sentence(self) -> str:
        """Phrase with method, size and base bits, for a sentence about the model."""
        size = f" ({self.size})" if self.size else ""
        base = f", trained on a {self.bits}-bit base (QLoRA)" if self.bits else ""
        parts = f", combined from {' and '.join(self.parts)}" if self.parts else ""
        return f"{self.kind}{size}{base}{parts}"


def read_adapter(folder: Path, parts: Sequence[str] = ()) -> AdapterFacts:
    """Reads adapter_config.json, and Burnish's own files in the same folder."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    method = str(config["peft_type"])
    dora = bool(config.get("use_dora"))
    kind = "DoRA" if dora else _NAMES.get(method, method)
    init = halves(folder)
    numbers = {"rank": config.get("r"), "alpha": config.get("lora_alpha", config.get("alpha"))}
    sizes = [f"{name} {value:g}" for name, value in numbers.items() if value]
    sizes += ["rank-stabilized"] if config.get("use_rslora") else []
    sizes += [f"initialized by {_NAMES[init]}, with the initial factors in the second half of the rank"] if init else []
    settings = read_base(folder)
    bits = None if settings is None else 4 if settings.load_in_4bit else 8
    tags = dict.fromkeys([method.lower(), kind.lower(), *([init] if init else []), *(["qlora"] if bits else [])])
    return AdapterFacts(kind, tuple(tags), ", ".join(sizes), bits, tuple(parts))


_NAMES = {"LORA": "LoRA", "LOHA": "LoHa", "LOKR": "LoKr", "VERA": "VeRA", "RANDLORA": "RandLoRA", "ROAD": "RoAd"} | {
    "MISS": "MiSS",
    "DELORA": "DeLoRA",
    "GRALORA": "GraLoRA",
    "HIRA": "HiRA",
    "pissa": "PiSSA",
    "olora": "OLoRA",
}
"""Usual names of methods, by peft's names and ours."""


def write_card(
    folder: Path,
    named: ModelRef,
    title: str,
    facts: RunFacts | None,
    *,
    form: str,
    dtype: str,
    checked: str,
    parts: Sequence[str] = (),
    value_head: ValueHeadConfig | None = None,
    chats: bool = True,
    model_class: str = "AutoModelForCausalLM",
) -> None:
    """Writes the card of a model into its folder.

    Args:
        folder: the model's folder.
        named: the reference of the model that was written.
        title: title of the card.
        facts: about the model's run; None: it is not known.
        form: merged or adapter.
        dtype: type of its weights.
        checked: the line about the check after writing.
        parts: names of the adapters that were combined; empty: none were.
        value_head: a reward model's value head; None: a language model.
        chats: whether the tokenizer has a chat template, by which the example code asks.
        model_class: class of transformers that loads a merged model.
    """
    place = folder if form == "adapter" else Path(named.place)
    adapter = read_adapter(place, parts) if named.kind == "adapter" else None
    text = card(
        title,
        named,
        facts,
        form=form,
        dtype=dtype,
        checked=checked,
        adapter=adapter,
        value_head=value_head,
        chats=chats,
        model_class=model_class,
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def card(
    title: str,
    named: ModelRef,
    facts: RunFacts | None,
    *,
    form: str,
    dtype: str,
    checked: str,
    adapter: AdapterFacts | None = None,
    value_head: ValueHeadConfig | None = None,
    chats: bool = True,
    model_class: str = "AutoModelForCausalLM",
) -> str:
    """The text of a card; see `write_card`."""
    initial_model = named.base or (named.place if facts is None else facts.model)
    front = _front(initial_model, facts, form, adapter, value_head=value_head)
    return "".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {title}\n\n",
            f"{_sentence(initial_model, facts, form, dtype, adapter, value_head=value_head)}\n\n## Use\n\n```python\n"
            f"{_reward_model_usage(value_head) if value_head else _usage(form, chats, model_class)}```\n\n",
            _base_section(form, adapter),
            *(() if facts is None else _run_sections(facts)),
            f"## Checked\n\nAfter writing: {checked}.\n\n## Versions\n\n{_versions()}\n",
        ]
    )


def _base_section(form: str, adapter: AdapterFacts | None) -> str:
    if adapter is None or adapter.bits is None:
        return ""
    if form == "adapter":
        return (
            f"It was trained on a {adapter.bits}-bit base. To get the model that was trained, load the base with\n"
            f'`BitsAndBytesConfig.from_dict(json.load(open("{BASE}")))` as `quantization_config`.\n\n'
        )
    return (
        f"The adapter was trained on a {adapter.bits}-bit base and merged into the unquantized one, so its "
        "log-probabilities differ\nfrom those of the training by the quantization error.\n\n"
    )


def _front(
    initial_model: str,
    facts: RunFacts | None,
    form: str,
    adapter: AdapterFacts | None,
    *,
    value_head: ValueHeadConfig | None,
) -> dict[str, object]:
    front: dict[str, object] = {
        "library_name": "peft" if form == "adapter" else "transformers",
        "pipeline_tag": _pipeline_tag(value_head) if value_head else "text-generation",
        "tags": ["burnish", *(() if facts is None else facts.methods), *(adapter.tags if adapter else ())],
    }
    if hub_name := _hub_name(initial_model):
        front["base_model"] = hub_name
    if hub_name and (form == "adapter" or facts is not None):
        front["base_model_relation"] = "adapter" if form == "adapter" else "finetune"
    if isinstance(license_name := _front_of(initial_model).get("license"), str):
        front["license"] = license_name
    return front


def _sentence(
    initial_model: str,
    facts: RunFacts | None,
    form: str,
    dtype: str,
    adapter: AdapterFacts | None,
    *,
    value_head: ValueHeadConfig | None,
) -> str:
    description = "" if adapter is None else adapter.sentence()
    model_type = "reward" if value_head else "language"
    subject = f"An adapter (peft) by {description}, for" if form == "adapter" else f"A {model_type} model made from"
    base = _link(initial_model) if _is_hub_name(initial_model) else f"`{shortened(initial_model)}`"
    if (origin := _hub_name(initial_model)) and origin != initial_model:
        base += f" (made from {_link(origin)})"
    merged = f" and an adapter by {description}, merged," if description and form == "merged" else ""
    methods = () if facts is None else tuple(_METHODS.get(method, method) for method in facts.methods)
    trained = f" by {', then '.join(methods)}" if methods else ""
    return f"{subject} {base}{merged}{trained} with Burnish {version('burnish')}. Weights: {dtype}."


_METHODS = {
    "sft": "supervised fine-tuning",
    "prefer": "preference optimization",
    "reward": "reward modeling",
    "rl": "reinforcement learning",
    "ppo": "PPO with a critic",
    "distill": "distillation from a teacher",
}
"""Names of methods in a sentence; a stage of one's own has its own."""


def _pipeline_tag(value_head: ValueHeadConfig) -> str:
    return "text-classification" if value_head.judged == "answer" else "token-classification"


def _reward_model_usage(value_head: ValueHeadConfig) -> str:
    """Example code that scores a conversation with a reward model."""
    by_step = value_head.judged == "step"
    kind = "AutoModelForTokenClassification" if by_step else "AutoModelForSequenceClassification"
    values = "logits[0]" if by_step else "logits[0, 0]" if value_head.outputs == 1 else "logits[0]"
    return (
        f"from transformers import {kind}, AutoTokenizer\n\n"
        f"{_NAME}"
        f"model = {kind}.from_pretrained(name)\n"
        "tokenizer = AutoTokenizer.from_pretrained(name)\n"
        'turns = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good morning."}]\n'
        'text = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\\n")\n'
        f'print(model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).{values})\n'
    )


_NAME = 'name = "."  # the folder of this card; for a model on the hub its name, owner/name\n'


def _usage(form: str, chats: bool, model_class: str) -> str:
    """Example code that generates a response, or with a model without a chat template continues a text."""
    kind, module = ("AutoPeftModelForCausalLM", "peft") if form == "adapter" else (model_class, "transformers")
    extra = "" if module == "transformers" else f"from {module} import {kind}\n"
    names = f"{kind}, AutoTokenizer" if module == "transformers" else "AutoTokenizer"
    asking = (
        'turns = [{"role": "user", "content": "Hello!"}]\n'
        'inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", '
        "return_dict=True)\n"
        if chats
        else 'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
    )
    return (
        f"{extra}from transformers import {names}\n\n"
        f"{_NAME}"
        f"model, tokenizer = {kind}.from_pretrained(name), AutoTokenizer.from_pretrained(name)\n"
        f"{asking}"
        'response = model.generate(**inputs, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(response, skip_special_tokens=True))\n"
    )


def _run_sections(facts: RunFacts) -> Iterator[str]:
    if facts.metrics:
        yield "## Results\n\n| metric | first | last |\n| --- | --- | --- |\n"
        yield from (f"| `{name}` | {first:.4g} | {last:.4g} |\n" for name, first, last in facts.metrics)
        yield "\n"
    if facts.data:
        yield "## Data\n\n"
        yield from (f"- {shortened(line)}\n" for line in facts.data)
        yield "\n"
    yield f"## Recipe\n\nEvery value with its origin:\n\n```yaml\n{shortened(facts.recipe)}```\n\n"


def shortened(text: str) -> str:
    """The text with every absolute or relative path cut to its last part; hub names and web addresses stay."""
    return _PATH.sub(lambda match: f"…/{match[1]}", text)


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".") and not Path(name).exists()


def _link(hub_name: str) -> str:
    return f"[{hub_name}](https://huggingface.co/{hub_name})"


def _hub_name(initial_model: str) -> str | None:
    """The initial model's name on the hub, or the one that its card names as its base; None: neither is known."""
    if _is_hub_name(initial_model):
        return initial_model
    base = _front_of(initial_model).get("base_model")
    return base if isinstance(base, str) and _is_hub_name(base) else None


def _front_of(initial_model: str) -> Mapping[str, object]:
    """Front matter of the initial model's card; empty: there is none, or it cannot be reached."""
    if not Path(initial_model).is_dir() and isinstance(look_up(initial_model, "model"), Refusal):
        return {}
    with reading(initial_model):
        try:
            path = cached_file(initial_model, CARD, _raise_exceptions_for_missing_entries=False)
            text = "" if path is None else Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return {}
    match = _FRONT.match(text)
    try:
        front = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return {}
    return front if isinstance(front, Mapping) else {}


def _versions() -> str:
    versions: Sequence[tuple[str, str]] = (
        ("burnish", version("burnish")),
        ("torch", torch.__version__),
        ("transformers", transformers.__version__),
        ("peft", peft.__version__),
        ("Python", platform.python_version()),
    )
    return ", ".join(f"{name} {version}" for name, version in versions)
