"""Loading a model by hub name or folder into a `Model`, and proving that it computes packed groups rightly.

Stands before training. Weights load in the checkpoint's own type unless another is asked for; nothing is run that came
with the checkpoint (safetensors only, remote code off).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.builtin.places import PREFIX, model_folder
from burnish.errors import ModelError
from burnish.model import quantization, vocabulary
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.stored import continue_adapter, stored_adapter
from burnish.model.attention import install
from burnish.model.export import finalize_generation_config
from burnish.model.freezing import freeze as freeze_parameters
from burnish.model.policy import Model
from burnish.model.probe import ProbeResult, probe
from burnish.model.route import Route
from burnish.model.settings import DtypeName, Quantization, ValueHeadConfig
from burnish.model.stop_tokens import stop_tokens_of
from burnish.model.value_head import (
    JUDGES,
    finalize_padding,
    holds_reward_model,
    is_reward_model,
    reward_model_class,
    value_head_config,
    with_value_head,
)
from burnish.watch.quiet import quiet_transformers

TOKENIZER = "tokenizer_config.json"
NO_LIMIT = 2**31
"""Of positions: more than anybody has."""
RANDOM = ("dropout", "_pdrop", "dropout_prob", "jitter_noise")
"""How settings of dropout and of noise end."""


def load_policy(
    name: str,
    *,
    adapter: AdapterSettings | None = None,
    quantisation: Quantization | None = None,
    freeze: Sequence[str] = (),
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    gradient_checkpointing: bool | int = False,
    add_tokens: Sequence[str] = (),
    judging: ValueHeadConfig | None = None,
) -> Model:
    """Loads a causal language model for training, or a reward model.

    Args:
        name: a hub name, a folder as `save_pretrained` writes it, or ``builtin:tiny``; also a folder with an adapter,
            which trains on.
        adapter: the adapter to train; None: all weights.
        quantisation: how the base is stored under an adapter; None: as plain numbers.
        freeze: patterns of weights that do not train, without an adapter; see `freezing`.
        dtype: "auto" is the checkpoint's own type (float32 for a float16 one, whose gradients would underflow).
        device: None: CUDA if there is one, else CPU.
        gradient_checkpointing: keep only layer inputs, and compute the layers again in the backward; a number n: of
            every n-th layer, and keep all of the others.
        add_tokens: special tokens that tokenizer and model are given where they lack them; see `vocabulary`.
        judging: the value head of a reward model, which is put in the place of a language model's head, or is there
            already (then it trains on); None: a language model.

    Raises:
        ModelError: no such model, a reward model where a language model is asked for, no weights or tokenizer in it,
            weights missing from it, tokens that cannot be added, or an architecture that no route computes exactly.
    """
    stored = _stored_adapter(name)
    if stored is not None:
        _refuse_other_uses(name, stored, adapter, judging)
    tokenizer = load_tokenizer(name)
    device = device or default_device()
    model, notes = _load_base(_base(name), dtype, quantisation, device, may_judge=judging is not None)
    if stored is not None:
        vocabulary.make_room_for_all(model, tokenizer)
    new_rows, lines = vocabulary.extend(model, tokenizer, add_tokens)
    notes += lines
    if not quantization.is_quantized(model):  # which is where it belongs already
        model = model.to(device)
    ends = () if is_reward_model(model) else stop_tokens_of(model.generation_config, tokenizer)
    install(model)
    found = probe(model.train())
    notes += _on_the_route(model, found)
    if judging is not None:
        model = _as_judge(name, model, judging)
        notes += finalize_padding(model, tokenizer, ends)
    if gradient_checkpointing:
        _checkpoint(model, every=int(gradient_checkpointing))
    trained: PreTrainedModel | PeftModel = model
    if stored is not None and adapter is not None:
        trained = _go_on(model, name, stored, adapter, new_rows)
    elif adapter is not None:
        trained = add_adapter(model, adapter, new_rows)
    else:
        notes += freeze_parameters(model, freeze, new_rows)
    trained.train()
    return Model(trained, tokenizer, found.route, notes=tuple(notes))


def _refuse_other_uses(
    name: str, stored: PeftConfig, adapter: AdapterSettings | None, judging: ValueHeadConfig | None
) -> None:
    """Refuses an adapter where all weights are to train, and one that judges where a language model is asked for."""
    if adapter is None:
        raise ModelError(
            given=f"model: {name} holds an adapter, and adapter.kind is full",
            rule="all weights of a whole model train, or an adapter beside them",
            remedy="set adapter.kind=lora to go on with the adapter, or merge it into its model first (burnish merge)",
        )
    if stored.task_type in JUDGES and judging is None:
        raise is_reward_model_folder(name)


def _as_judge(name: str, model: PreTrainedModel, judging: ValueHeadConfig) -> PreTrainedModel:
    """The model with a value head: its own, or a new one."""
    if not is_reward_model(model):
        return with_value_head(model, judging)
    found = value_head_config(model)
    if replace(found, seed=judging.seed, names=found.names if judging.names else ()) != judging:
        raise ModelError(
            given=f"{name}, a reward model with {_told(found)}",
            rule=f"here it is {_told(judging)}",
            remedy="begin with the language model that it was made from, or with another reward model",
        )
    return model


def _told(judging: ValueHeadConfig) -> str:
    numbers = "one number" if judging.outputs == 1 else f"{judging.outputs} numbers"
    named = f" ({', '.join(judging.names)})" if judging.names else ""
    probability = ", the logit of a probability" if judging.problem == "multi_label_classification" else ""
    return f"{numbers}{named} for each {judging.judged}{probability}"


def _checkpoint(model: PreTrainedModel, every: int) -> None:
    """Every so many-th layer, the first among them, is computed again in the backward."""
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            given=f"gradient_checkpointing, and {type(model).__name__} has none in transformers",
            rule="the architecture can compute its layers again in the backward",
            remedy="leave gradient_checkpointing out, and set tokens_per_microbatch lower if memory is short",
        )
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)


def _on_the_route(model: PreTrainedModel, found: ProbeResult) -> Iterator[str]:
    """A line if it is not the fastest."""
    if found.route is Route.EXPANDED:
        yield f"{type(model).__name__} computes every prompt once per response; shared: {found.reason}"
    if found.route is Route.ALONE:
        yield f"{type(model).__name__} computes every sequence in a forward of its own; packed: {found.reason}"


def _load_base(
    name: str, dtype: DtypeName, asked: Quantization | None, device: torch.device, *, may_judge: bool
) -> tuple[PreTrainedModel, list[str]]:
    """The base, quantised if that is asked for; see `load_model`."""
    config = load_config(name)
    stored = quantization.stored_in(config)
    quantization.check_stored(name, stored, asked)
    if asked is None:
        return load_model(name, dtype, may_judge=may_judge)
    quantization.require_installed()
    if stored is not None:
        return load_model(name, dtype, device=device)
    model, notes = load_model(
        name, dtype, quantisation=quantization.configuration(asked, _computed_in(config, dtype)), device=device
    )
    if asked.int8_threshold and asked.bits == 8:
        notes.append("adapter.int8_threshold looks at all rows of a microbatch: a step depends on how it is split")
    return model, notes


def _computed_in(config: PretrainedConfig, dtype: DtypeName) -> torch.dtype:
    """The type that weights get; of a float16 checkpoint float32."""
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    own = config.get_text_config(decoder=True).dtype or torch.float32
    return torch.float32 if own == torch.float16 else own


def _go_on(
    model: PreTrainedModel, name: str, stored: PeftConfig, adapter: AdapterSettings, new_rows: Sequence[int]
) -> PeftModel:
    if new_rows:
        raise ModelError(
            given=f"add_tokens, and {name} holds an adapter",
            rule="an adapter has the rows of new tokens from its beginning",
            remedy="add the tokens in the first stage, or merge the adapter first (burnish merge)",
        )
    return continue_adapter(model, Path(name).expanduser(), stored, adapter)


def _stored_adapter(name: str) -> PeftConfig | None:
    folder = Path(name).expanduser()
    return stored_adapter(folder) if folder.is_dir() else None


def _base(name: str) -> str:
    """The model that an adapter's folder belongs to; any other name as it is."""
    stored = _stored_adapter(name)
    return name if stored is None else str(stored.base_model_name_or_path)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str, add_tokens: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """The tokenizer, with these special tokens if it lacks them: equal to that of a policy loaded with the same.

    Raises ModelError if there is none, none that transformers can read, or none that can take the tokens.
    """
    adapter_alone = _stored_adapter(name) is not None and not (Path(name).expanduser() / TOKENIZER).exists()
    place = _find(_base(name) if adapter_alone else name)
    with quiet_transformers():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise _unloadable(place, "tokenizer", "tokenizer.json and tokenizer_config.json", error) from error
    vocabulary.add_tokens(tokenizer, add_tokens)
    return tokenizer


def load_config(name: str) -> PretrainedConfig:
    """Raises ModelError if there is none, or it is of an unknown architecture."""
    place = _find(_base(name))
    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(place)
        except (OSError, ValueError) as error:
            raise _unloadable(place, "configuration", "config.json", error) from error


def load_model(
    name: str,
    dtype: DtypeName = "auto",
    *,
    quantisation: BitsAndBytesConfig | None = None,
    device: torch.device | None = None,
    may_judge: bool = False,
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and what was changed about it, in lines for people.

    Args:
        name: a hub name or a folder.
        dtype: see `load_policy`.
        quantisation: how its linear layers are stored; None: as the checkpoint has them.
        device: where quantised layers are made, since they are not moved afterwards; None: see `default_device`.
        may_judge: whether a reward model may come, if the files are one.

    Raises:
        ModelError: the files are a reward model and must not be, there are no weights, or weights that the
            architecture needs are not among them.
    """
    config = load_config(name)
    if holds_reward_model(config) and not may_judge:
        raise is_reward_model_folder(name)
    kind = reward_model_class(config) if holds_reward_model(config) else AutoModelForCausalLM
    notes = [*_dropout_off(config), *_whole_experts(config)]
    place = _find(name)
    quantises = quantisation is not None or quantization.stored_in(config) is not None
    wanted = _computed_in(config, dtype) if quantises or dtype != "auto" else "auto"
    options = {"quantization_config": quantisation} if quantisation is not None else {}
    if quantises:
        options["device_map"] = {"": device or default_device()}
    with quiet_transformers():
        try:
            model, info = kind.from_pretrained(
                place, config=config, dtype=wanted, use_safetensors=True, output_loading_info=True, **options
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise _unloadable(place, "model", "safetensors weights (model.safetensors)", error) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            given=f"the weights of {name} lack {len(missing)} tensors, such as {missing[0]}",
            rule="every parameter of the architecture is in the checkpoint; else it would start at random, unnoticed",
            remedy="save the model again with save_pretrained, or name another model",
        )
    if model.dtype == torch.float16:
        notes.append("the checkpoint is float16, in which small gradients vanish: it is trained and saved as float32")
        model = model.float()
    quantization.finalize(model)
    notes += [] if holds_reward_model(config) else finalize_generation_config(model)
    return model, notes


def is_reward_model_folder(name: str) -> ModelError:
    """For whoever needs a language model."""
    return ModelError(
        given=f"{name} is a reward model: it judges answers, and writes none",
        rule="here a language model is needed",
        remedy="name the language model; reward models are trained by burnish reward, and measured on pairs by burnish "
        "eval",
    )


def _dropout_off(config: PretrainedConfig) -> Iterator[str]:
    """Sets every dropout and noise of the configuration to 0: with them, a step depends on how it is split."""
    text = config.get_text_config(decoder=True)
    for name, value in text.to_dict().items():
        if name.endswith(RANDOM) and isinstance(value, float) and value > 0:
            setattr(text, name, 0.0)
            yield f"{name} is {value} in the model's configuration; it is 0 here, and in what is saved"


def _whole_experts(config: PretrainedConfig) -> Iterator[str]:
    """gpt-oss comes with experts in 4 bits (MXFP4), for which there is no backward."""
    stored = config.to_dict().get("quantization_config") or {}
    if stored.get("quant_method") == "mxfp4":
        config.quantization_config["dequantize"] = True
        yield "the checkpoint's experts are in MXFP4, which cannot be trained: they become whole numbers of 16 bits"


def max_positions(config: PretrainedConfig) -> int:
    """The longest sequence, in tokens, that packing computes as the plain model does; `NO_LIMIT`: any.

    A configuration that names none belongs to a model without a table of positions: a recurrent one, or with ALiBi.
    Dynamic and long rotary scaling change *all* positions' frequencies once the longest sequence of the batch passes
    the original length, so below that length a packed row is in one regime.
    """
    config = config.get_text_config(decoder=True)
    text = config.to_dict()
    positions = text.get(config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    if not isinstance(positions, int):
        return NO_LIMIT
    limits = [positions]
    parameters = text.get("rope_parameters") or {}
    for rope in [parameters, *(value for value in parameters.values() if isinstance(value, dict))]:
        if rope.get("rope_type") in {"dynamic", "longrope"}:
            limits.append(int(rope.get("original_max_position_embeddings") or positions))
    return min(limits)


def _find(name: str) -> str:
    """An existing folder as an absolute path (which an adapter remembers as its base), a hub name as it is.

    Raises:
        ModelError: the name can only be a folder and there is none.
    """
    if name.startswith(PREFIX):
        return str(model_folder(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.exists():
        raise ModelError(
            given=f"model: {name}",
            rule="a model is a hub name (owner/name) or an existing folder",
            remedy=f"check the path; the current folder is {Path.cwd()}",
        )
    return name


def _unloadable(name: str, what: str, files: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300]
    if Path(name).is_dir():
        found = ", ".join(sorted(p.name for p in Path(name).iterdir())[:12]) or "nothing"
        return ModelError(
            given=f"no usable {what} in {name} (it holds: {found}); {reason}",
            rule=f"a model folder holds {files}",
            remedy="save the model there with save_pretrained, weights and tokenizer both",
        )
    return ModelError(
        given=f"the {what} of {name} could not be loaded: {reason}",
        rule="a model is a hub name that can be reached, or a folder on this machine",
        remedy="check the spelling and the network, or download the model and give its folder",
    )
