"""The model card: what a model is, how it came about and what it reached, as the README.md of its folder.

Stands behind `write`, and reads what a run leaves in its folder. A card is for strangers: of paths on this machine only
the last part is told, and no row of the data is shown.
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

from burnish.config.text import load_yaml
from burnish.model.adapters.initial import halves
from burnish.model.open import ModelRef
from burnish.model.quantization import BASE, read_base
from burnish.model.settings import ValueHeadConfig
from burnish.watch.quiet import quiet_transformers

CARD = "README.md"
_DATA_LINE = re.compile(r"^\S+ \S+ (?P<told>.+: [\d,]+ rows \(.*)$")
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_PATH = re.compile(r"(?<![\w.:/])(?:~|\.{1,2})?/(?:[^\s/'\"]+/)*([^\s/'\"]+)")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run folder tells about its model."""

    methods: tuple[str, ...]
    """The methods of its stages, such as sft."""
    model: str
    """What training began with: a hub name or a path."""
    recipe: str
    """recipe.yaml, every value with its origin."""
    data: tuple[str, ...]
    """What became of the data, a line for each set."""
    figures: tuple[tuple[str, float, float], ...]
    """Name, first and last value of the loss and of everything that was evaluated."""


def read_run(run: Path) -> RunFacts:
    """Reads the folder of a finished run."""
    recipe = load_yaml(run / "recipe.yaml")
    methods = tuple(next(iter(stage)) for stage in recipe["stages"])
    log = (run / "log.txt").read_text(encoding="utf-8") if (run / "log.txt").exists() else ""
    data = tuple(dict.fromkeys(found["told"] for line in log.splitlines() if (found := _DATA_LINE.match(line))))
    text = (run / "recipe.yaml").read_text(encoding="utf-8")
    return RunFacts(methods, str(recipe["model"]), text, data, tuple(_figures(run / "metrics.jsonl")))


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What the files of an adapter tell about it."""

    kind: str
    """Its method, as people call it: LoRA, DoRA, IA3, …"""
    tags: tuple[str, ...]
    size: str
    """Such as rank 16, alpha 32; empty: it has no such numbers."""
    bits: int | None
    """Of its base's weights in training; None: they were plain numbers."""
    parts: tuple[str, ...] = ()
    """The adapters that it was combined of; empty: it was trained."""

    def sentence(self) -> str:
        """Told beside the base."""
        size = f" ({self.size})" if self.size else ""
        base = f", trained beside {self.bits}-bit weights (QLoRA)" if self.bits else ""
        parts = f", combined of {' and '.join(self.parts)}" if self.parts else ""
        return f"{self.kind}{size}{base}{parts}"


def read_adapter(folder: Path, parts: Sequence[str] = ()) -> AdapterFacts:
    """Reads adapter_config.json, and what is beside it."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    method = str(config["peft_type"])
    dora = bool(config.get("use_dora"))
    kind = "DoRA" if dora else _NAMES.get(method, method)
    init = halves(folder)
    numbers = {"rank": config.get("r"), "alpha": config.get("lora_alpha", config.get("alpha"))}
    sizes = [f"{name} {value:g}" for name, value in numbers.items() if value]
    sizes += ["rank-stabilised"] if config.get("use_rslora") else []
    sizes += [f"begun by {_NAMES[init]}, with its beginning in the second half of the rank"] if init else []
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
"""What people call methods, by peft's names and ours."""


def write_card(
    folder: Path,
    named: ModelRef,
    title: str,
    *,
    form: str,
    dtype: str,
    checked: str,
    parts: Sequence[str] = (),
    judging: ValueHeadConfig | None = None,
) -> None:
    """Writes the card of a model into its folder.

    Args:
        folder: what is described.
        named: where the model came from.
        title: what it is called.
        form: merged or adapter.
        dtype: type of its weights.
        checked: a line that says how it was compared with what it was made of.
        parts: names of the adapters that were combined; empty: none were.
        judging: its value head; None: it is a language model.
    """
    facts = None if named.run is None else read_run(named.run)
    place = folder if form == "adapter" else Path(named.place)
    adapter = read_adapter(place, parts) if named.kind == "adapter" else None
    text = card(title, named, facts, form=form, dtype=dtype, checked=checked, adapter=adapter, judging=judging)
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
    judging: ValueHeadConfig | None = None,
) -> str:
    """The text of a card; see `write_card`."""
    begun = named.base or (named.place if facts is None else facts.model)
    front = _front(begun, facts, form, adapter, judging=judging)
    return "".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {title}\n\n",
            f"{_sentence(begun, facts, form, dtype, adapter, judging=judging)}\n\n## Use\n\n```python\n"
            f"{_use_of_judge(judging) if judging else _use(form)}```\n\n",
            _of_base(form, adapter),
            *(() if facts is None else _of_run(facts)),
            f"## Checked\n\nAfter writing: {checked}.\n\n## Versions\n\n{_versions()}\n",
        ]
    )


def _of_base(form: str, adapter: AdapterFacts | None) -> str:
    if adapter is None or adapter.bits is None:
        return ""
    if form == "adapter":
        return (
            f"It was trained beside a {adapter.bits}-bit base. To compute what was trained, load the base with\n"
            f'`BitsAndBytesConfig.from_dict(json.load(open("{BASE}")))` as `quantization_config`.\n\n'
        )
    return (
        f"The adapter was trained beside {adapter.bits}-bit weights and added to the unquantised ones, so its "
        "log-probabilities differ\nfrom those of the training by what quantising changed.\n\n"
    )


def _front(
    begun: str, facts: RunFacts | None, form: str, adapter: AdapterFacts | None, *, judging: ValueHeadConfig | None
) -> dict[str, object]:
    front: dict[str, object] = {
        "library_name": "peft" if form == "adapter" else "transformers",
        "pipeline_tag": _tagged(judging) if judging else "text-generation",
        "tags": ["burnish", *(() if facts is None else facts.methods), *(adapter.tags if adapter else ())],
    }
    if _is_hub_name(begun):
        front["base_model"] = begun
    if (license_name := _license(begun)) is not None:
        front["license"] = license_name
    return front


def _sentence(
    begun: str,
    facts: RunFacts | None,
    form: str,
    dtype: str,
    adapter: AdapterFacts | None,
    *,
    judging: ValueHeadConfig | None,
) -> str:
    told = "" if adapter is None else adapter.sentence()
    sort = "reward" if judging else "language"
    what = f"An adapter (peft) by {told}, for" if form == "adapter" else f"A {sort} model made from"
    base = f"[{begun}](https://huggingface.co/{begun})" if _is_hub_name(begun) else f"`{shortened(begun)}`"
    merged = f" and an adapter by {told}, merged," if told and form == "merged" else ""
    trained = "" if facts is None else f" by {', then '.join(facts.methods)}"
    return f"{what} {base}{merged}{trained} with [Burnish](https://pypi.org/project/burnish/). Weights: {dtype}."


def _tagged(judging: ValueHeadConfig) -> str:
    return "text-classification" if judging.judged == "answer" else "token-classification"


def _use_of_judge(judging: ValueHeadConfig) -> str:
    """How a reward model is asked."""
    by_step = judging.judged == "step"
    kind = "AutoModelForTokenClassification" if by_step else "AutoModelForSequenceClassification"
    wanted = "logits[0]" if by_step else "logits[0, 0]" if judging.outputs == 1 else "logits[0]"
    return (
        f"from transformers import {kind}, AutoTokenizer\n\n"
        'name = "..."  # this folder, or its name on the hub\n'
        f"model = {kind}.from_pretrained(name)\n"
        "tokenizer = AutoTokenizer.from_pretrained(name)\n"
        'turns = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good morning."}]\n'
        'text = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\\n")\n'
        f'print(model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).{wanted})\n'
    )


def _use(form: str) -> str:
    kind, module = (
        ("AutoPeftModelForCausalLM", "peft") if form == "adapter" else ("AutoModelForCausalLM", "transformers")
    )
    extra = "" if module == "transformers" else f"from {module} import {kind}\n"
    names = f"{kind}, AutoTokenizer" if module == "transformers" else "AutoTokenizer"
    return (
        f"{extra}from transformers import {names}\n\n"
        'name = "..."  # this folder, or its name on the hub\n'
        f"model, tokenizer = {kind}.from_pretrained(name), AutoTokenizer.from_pretrained(name)\n"
        'turns = [{"role": "user", "content": "Hello!"}]\n'
        'inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", '
        "return_dict=True)\n"
        "print(tokenizer.decode(model.generate(**inputs)[0]))\n"
    )


def _of_run(facts: RunFacts) -> Iterator[str]:
    if facts.figures:
        yield "## Figures\n\n| figure | first | last |\n| --- | --- | --- |\n"
        yield from (f"| `{name}` | {first:.4g} | {last:.4g} |\n" for name, first, last in facts.figures)
        yield "\n"
    if facts.data:
        yield "## Data\n\n"
        yield from (f"- {shortened(line)}\n" for line in facts.data)
        yield "\n"
    yield f"## Recipe\n\nEvery value with its origin:\n\n```yaml\n{shortened(facts.recipe)}```\n\n"


def _figures(path: Path) -> Iterator[tuple[str, float, float]]:
    """First and last value of what was evaluated, and of the training loss."""
    found: dict[str, list[float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        for name, value in json.loads(line).items():
            if (name.startswith("eval/") or name == "train/loss") and isinstance(value, int | float):
                found.setdefault(name, []).append(float(value))
    for name in sorted(found):
        yield name, found[name][0], found[name][-1]


def shortened(text: str) -> str:
    """The text with every path of a machine cut to its last part; hub names and web addresses stay."""
    return _PATH.sub(lambda match: f"…/{match[1]}", text)


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".") and not Path(name).exists()


def _license(begun: str) -> str | None:
    """What the card of the model that training began with says; None: it has none, or cannot be reached."""
    with quiet_transformers():
        try:
            path = cached_file(begun, CARD, _raise_exceptions_for_missing_entries=False)
            text = "" if path is None else Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None
    found = _FRONT.match(text)
    try:
        front = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    license_name = front.get("license") if isinstance(front, Mapping) else None
    return license_name if isinstance(license_name, str) else None


def _versions() -> str:
    versions: Sequence[tuple[str, str]] = (
        ("burnish", version("burnish")),
        ("torch", torch.__version__),
        ("transformers", transformers.__version__),
        ("peft", peft.__version__),
        ("Python", platform.python_version()),
    )
    return ", ".join(f"{name} {version}" for name, version in versions)
