"""Layouts in files of other tools: a DeepSpeed ZeRO configuration, and one of accelerate.

Both are mapped to the equivalent of `parallel`. What only tunes the engine of the other tool has no equivalent and
changes no result; what Burnish sets in another place is named with that place; what changes the result and has no
equivalent is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from burnish.errors import RecipeError


@dataclass(frozen=True, slots=True)
class GivenLayout:
    """A layout that a file of another tool asks for. Example: ZeRO 3 with offload is
    ``GivenLayout(shard="auto", cpu_offload=True)``."""

    data: int | Literal["auto"] = "auto"
    shard: int | Literal["auto"] = 1
    tensor: int = 1
    cpu_offload: bool = False
    without_effect: tuple[str, ...] = ()
    """Keys that tune the engine of the other tool."""
    elsewhere: tuple[str, ...] = ()
    """What the recipe sets in another place, such as ``gradient_clipping: optimizer.max_grad_norm``."""

    @property
    def notes(self) -> Iterator[str]:
        """Lines for the log."""
        yield from (f"parallel.config: {words}" for words in self.elsewhere)
        if self.without_effect:
            yield f"parallel.config: without an equivalent, and without an effect: {', '.join(self.without_effect)}"


Step = Callable[[GivenLayout, Any, str], GivenLayout]
"""Layout, value of a key, and the key → the layout with it."""
_OFF = (None, False, "auto", "none", "no", "NO", "", 0)


def _ignored(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    return replace(layout, without_effect=(*layout.without_effect, key))


def _silent(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    return layout


def _elsewhere(place: str) -> Step:
    def step(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
        return layout if value in _OFF else replace(layout, elsewhere=(*layout.elsewhere, f"{key}: set {place}"))

    return step


def _refused(reason: str) -> Step:
    def step(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
        if value in _OFF:
            return layout
        raise _error(f"{key}: {value}", reason, f"remove {key}")

    return step


def _stage(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    if value == "auto":
        return layout
    stage = _number(value, key, least=0)
    if stage > 3:
        raise _error(f"{key}: {stage}", "the stages of ZeRO are 0 to 3", "set one of them")
    words = (f"{key} {stage}: the weights are sharded too",) if stage in (1, 2) else ()
    return replace(layout, shard="auto" if stage else 1, elsewhere=(*layout.elsewhere, *words))


def _zero(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    """The section zero_optimization. The sizes of groups of shards are those of stage 3."""
    if value in _OFF:
        return layout
    given = dict(_mapping(value, key))
    sizes = {name: given.pop(name, 1) for name in _GROUP_SIZES}
    layout = _read(layout, given, ZERO, f"{key}.")
    groups = [size for name in sizes if (size := _number(sizes[name], f"{key}.{name}", least=-1)) > 1]
    if len(groups) > 1:
        raise _error(" and ".join(_GROUP_SIZES), "both are the number of processes that share weights", "set one")
    return replace(layout, shard=groups[0]) if groups and str(given.get("stage")) == "3" else layout


def _tensor(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    return replace(layout, tensor=max(1, _number(value, key, least=0)))


def _shard(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    return replace(layout, shard=max(1, _number(value, key, least=0)))


def _data(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    return replace(layout, data=max(1, _number(value, key, least=0)))


def _offload_device(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    device = value.get("device", "none") if isinstance(value, Mapping) else value
    if device in _OFF:
        return layout
    if device != "cpu":
        raise _error(f"{key}: {device}", "weights are offloaded to the memory of the CPU", "set cpu, or remove it")
    return replace(layout, cpu_offload=True)


def _offload(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    return replace(layout, cpu_offload=layout.cpu_offload or _truth(value))


def _half(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    enabled = value.get("enabled", False) if isinstance(value, Mapping) else value
    if enabled == "auto" or not _truth(enabled):
        return layout
    if key.startswith("bf16"):
        return replace(layout, elsewhere=(*layout.elsewhere, f"{key}: set dtype: bfloat16"))
    raise _error(f"{key} is enabled", "training is in float32 or bfloat16", "remove it, and set dtype: bfloat16")


def _precision(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
    if value in (*_OFF, "fp32"):
        return layout
    return _half(layout, True, "bf16" if value == "bf16" else str(value))


def _of(table: Callable[[], Mapping[str, Step]], prefix: str = "") -> Step:
    """A mapping whose keys have steps of their own."""

    def step(layout: GivenLayout, value: Any, key: str) -> GivenLayout:
        if value in _OFF:
            return layout
        return _read(layout, _mapping(value, key), table(), f"{prefix or key}.")

    return step


_GROUP_SIZES = ("zero_hpz_partition_size", "mics_shard_size")
_TUNING = (
    "overlap_comm contiguous_gradients reduce_bucket_size allgather_bucket_size reduce_scatter "
    "allgather_partitions sub_group_size round_robin_gradients stage3_prefetch_bucket_size "
    "stage3_param_persistence_threshold stage3_model_persistence_threshold stage3_max_live_parameters "
    "stage3_max_reuse_distance stage3_gather_16bit_weights_on_model_save "
    "stage3_gather_fp16_weights_on_model_save stage3_use_all_reduce_for_fetch "
    "stage3_module_granularity_threshold ignore_unused_parameters legacy_stage1 elastic_checkpoint "
    "memory_efficient_linear load_from_fp32_weights log_trace_cache_warnings mics_hierarchical_params_gather"
)
_ENGINE = (
    "steps_per_print wall_clock_breakdown zero_allow_untested_optimizer zero_force_ds_cpu_optimizer "
    "communication_data_type prescale_gradients gradient_predivide_factor sparse_gradients dump_state "
    "memory_breakdown disable_allgather comms_logger flops_profiler tensorboard wandb csv_monitor aio "
    "checkpoint dataloader_drop_last seq_parallel_communication_data_type torch_autocast"
)
_LAUNCHING = (
    "zero3_init_flag zero3_save_16bit_model deepspeed_multinode_launcher deepspeed_hostfile "
    "deepspeed_exclusion_filter deepspeed_inclusion_filter deepspeed_moe_layer_cls_names "
    "offload_optimizer_nvme_path offload_param_nvme_path"
)
_SEQUENCES = "cp_comm_strategy cp_backend sp_backend sp_seq_length sp_seq_length_is_variable sp_attn_implementation"
ZERO: Mapping[str, Step] = MappingProxyType(
    {
        **dict.fromkeys(_TUNING.split(), _ignored),
        "stage": _stage,
        "offload_optimizer": _offload_device,
        "offload_param": _offload_device,
        "cpu_offload": _offload,
        **dict.fromkeys(
            ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights"),
            _refused("weights and gradients are sent as they are"),
        ),
    }
)
_BATCH = "sequences_per_step, the batch of all processes"
_MICRO = "tokens_per_microbatch"
DEEPSPEED: Mapping[str, Step] = MappingProxyType(
    {
        **dict.fromkeys(
            _ENGINE.split(),
            _ignored,
        ),
        "zero_optimization": _zero,
        "fp16": _half,
        "bf16": _half,
        "train_batch_size": _elsewhere(_BATCH),
        "train_micro_batch_size_per_gpu": _elsewhere(_MICRO),
        "gradient_accumulation_steps": _elsewhere(_MICRO),
        "gradient_clipping": _elsewhere("optimizer.max_grad_norm"),
        "optimizer": _elsewhere("optimizer.kind and learning_rate"),
        "scheduler": _elsewhere("schedule.kind and schedule.warmup_ratio"),
        "activation_checkpointing": _elsewhere("gradient_checkpointing"),
        "tensor_parallel": _of(lambda: {"autotp_size": _tensor}),
        "amp": _half,
    }
)
INLINE: Mapping[str, Step] = MappingProxyType(
    {
        "zero_stage": _stage,
        "offload_optimizer_device": _offload_device,
        "offload_param_device": _offload_device,
        "gradient_clipping": _elsewhere("optimizer.max_grad_norm"),
        "gradient_accumulation_steps": _elsewhere(_MICRO),
        **dict.fromkeys(
            _LAUNCHING.split(),
            _ignored,
        ),
    }
)
"""The section deepspeed_config of accelerate."""
DIMENSIONS: Mapping[str, Step] = MappingProxyType(
    {
        "dp_replicate_size": _data,
        "dp_shard_size": _shard,
        "tp_size": _tensor,
        **dict.fromkeys(
            _SEQUENCES.split(),
            _ignored,
        ),
    }
)
_ONE = (None, 1, "1", "auto")


def given_layout(path: Path) -> GivenLayout:
    """The layout of a DeepSpeed ZeRO JSON, or of an accelerate configuration (YAML or JSON).

    Raises:
        RecipeError: the file cannot be read or is neither of the two, or asks for something without an equivalent.
    """
    given = _loaded(path)
    if "distributed_type" in given or "compute_environment" in given:
        return _of_accelerate(given, path)
    if given.keys() & DEEPSPEED.keys():
        return _read(GivenLayout(), given, DEEPSPEED, "")
    keys = ", ".join(sorted(map(str, given)))[:200]
    raise _error(f"{path} has the keys {keys}" if keys else f"{path} is empty", _KINDS, "name such a file")


_KINDS = "it is a DeepSpeed configuration, or one that `accelerate config` writes"


def _of_accelerate(given: Mapping[str, Any], path: Path) -> GivenLayout:
    if unknown := [str(key) for key in given if key not in _LAUNCHING_KEYS.split()]:
        raise _error(unknown[0], "this key has no equivalent here", f"remove it, or {_REMEDY}")
    if given.get("compute_environment", "LOCAL_MACHINE") != "LOCAL_MACHINE":
        raise _error(f"compute_environment: {given['compute_environment']}", "processes are started by you", _REMEDY)
    written, layout = given.get("distributed_type") or "NO", GivenLayout()  # YAML reads an unquoted NO as false
    kind = str(written).removeprefix("DistributedType.")
    if kind == "FSDP":
        layout = _of_fsdp(layout, _mapping(given.get("fsdp_config") or {}, "fsdp_config"), given)
    elif kind == "DEEPSPEED":
        inline = dict(_mapping(given.get("deepspeed_config") or {}, "deepspeed_config"))
        if file := inline.pop("deepspeed_config_file", None):
            beside = path.parent / str(file)
            layout = given_layout(beside if beside.exists() else Path(str(file)))
        else:
            inline = {"zero_stage": _ACCELERATE_STAGE, **inline}
        layout = _read(layout, inline, INLINE, "deepspeed_config.")
    elif kind not in ("NO", "MULTI_CPU", "MULTI_GPU"):
        raise _error(f"distributed_type: {kind}", "the layouts are copies, shards and slices of weights", _REMEDY)
    if dimensions := given.get("parallelism_config"):
        layout = _of_dimensions(layout, _mapping(dimensions, "parallelism_config"))
    return _precision(layout, given.get("mixed_precision"), "mixed_precision")


_ACCELERATE_STAGE = 2
"""Stage of ZeRO where accelerate is given none."""
_LAUNCHING_KEYS = (
    "compute_environment distributed_type num_processes num_machines machine_rank main_process_ip main_process_port "
    "main_training_function rdzv_backend rdzv_conf same_network gpu_ids use_cpu debug downcast_bf16 "
    "enable_cpu_affinity mixed_precision fsdp_config deepspeed_config parallelism_config dynamo_config "
    "megatron_lm_config fp8_config "
    "mpirun_config ipex_config tpu_env tpu_name tpu_zone tpu_use_cluster tpu_use_sudo command_file commands "
    "dynamo_backend use_mps_device"
)
"""Keys of accelerate: those of layouts, and of who starts the processes."""
_REMEDY = "set parallel.data, parallel.shard and parallel.tensor in the recipe"


def _of_fsdp(layout: GivenLayout, fsdp: Mapping[str, Any], given: Mapping[str, Any]) -> GivenLayout:
    strategy = str(fsdp.get("fsdp_sharding_strategy") or "FULL_SHARD").upper()
    name = {"1": "FULL_SHARD", "2": "SHARD_GRAD_OP", "3": "NO_SHARD", "4": "HYBRID_SHARD"}.get(strategy, strategy)
    if name in ("FULL_SHARD", "SHARD_GRAD_OP"):
        layout = replace(layout, shard="auto")
    elif name in ("HYBRID_SHARD", "HYBRID_SHARD_ZERO2", "_HYBRID_SHARD_ZERO2", "5"):
        processes, machines = (_number(given.get(key), key, least=1) for key in ("num_processes", "num_machines"))
        if processes % machines:
            raise _error(f"{name} of {processes} processes on {machines} machines", "each has equally many", _REMEDY)
        layout = replace(layout, shard=processes // machines)
    elif name != "NO_SHARD":
        raise _error(f"fsdp_sharding_strategy: {strategy}", "it is a strategy of FSDP", "set FULL_SHARD")
    others = {key: value for key, value in fsdp.items() if key not in ("fsdp_sharding_strategy", "fsdp_version")}
    steps: Mapping[str, Step] = {
        **{str(key): _ignored for key in others if str(key).startswith("fsdp_")},
        "fsdp_offload_params": _offload,
        "fsdp_activation_checkpointing": _elsewhere("gradient_checkpointing"),
    }
    return _read(layout, others, steps, "fsdp_config.")


def _of_dimensions(layout: GivenLayout, given: Mapping[str, Any]) -> GivenLayout:
    sizes = {str(key).removeprefix("parallelism_config_").lower(): value for key, value in given.items()}
    for key in ("cp_size", "sp_size"):
        if sizes.pop(key, 1) not in _ONE:
            raise _error(f"parallelism_config: {key}", "a sequence is not divided among processes", "set it to 1")
    if all(sizes.get(key, 1) in _ONE for key in ("dp_replicate_size", "dp_shard_size", "tp_size")):
        return layout
    return _read(layout, {"dp_replicate_size": 1, **sizes}, DIMENSIONS, "parallelism_config.")


def layout_of_environment(environment: Mapping[str, str]) -> GivenLayout | None:
    """The layout for which `accelerate launch` started this process; None: it says nothing about one.

    Raises:
        RecipeError: it asks for something without an equivalent.
    """
    uses = {name for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM") if _truth(environment.get(f"ACCELERATE_USE_{name}"))}
    if "MEGATRON_LM" in uses:
        raise _error("accelerate launch with Megatron-LM", "it is another engine", _REMEDY)
    layout = _precision(GivenLayout(), environment.get("ACCELERATE_MIXED_PRECISION"), "mixed_precision")
    layout = replace(layout, elsewhere=())
    if "FSDP" in uses:
        names = ("FSDP_SHARDING_STRATEGY", "FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING")
        fsdp = {name.lower(): environment[name] for name in names if name in environment}
        counts = {
            "num_processes": environment.get("WORLD_SIZE"),
            "num_machines": environment.get("GROUP_WORLD_SIZE", "1"),
        }
        layout = _of_fsdp(layout, fsdp, counts)
    if "DEEPSPEED" in uses:
        if file := environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"):
            layout = given_layout(Path(file))
        else:
            environment = {"ACCELERATE_DEEPSPEED_ZERO_STAGE": str(_ACCELERATE_STAGE), **environment}
        names = ("ZERO_STAGE", "OFFLOAD_OPTIMIZER_DEVICE", "OFFLOAD_PARAM_DEVICE")
        given = {name.lower(): environment.get(f"ACCELERATE_DEEPSPEED_{name}") for name in names}
        layout = _read(layout, {key: value for key, value in given.items() if value is not None}, INLINE, "")
    if _truth(environment.get("ACCELERATE_USE_PARALLELISM_CONFIG")):
        prefix = "PARALLELISM_CONFIG_"
        sizes = {name.removeprefix(prefix): value for name, value in environment.items() if name.startswith(prefix)}
        layout = _of_dimensions(layout, sizes)
    return None if layout == GivenLayout() else layout


def _read(layout: GivenLayout, given: Mapping[str, Any], steps: Mapping[str, Step], prefix: str) -> GivenLayout:
    for key, value in given.items():
        step = steps.get(str(key))
        if step is None:
            raise _error(f"{prefix}{key}", "this key has no equivalent here", f"remove it, or {_REMEDY}")
        layout = step(layout, value, f"{prefix}{key}")
    return layout


def _loaded(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        given = json.loads(text, object_pairs_hook=_unique) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError, LookupError, AttributeError, TypeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise _error(f"{path} cannot be read: {reason}", _KINDS, "correct the path or the file") from error
    return _mapping(given, str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _error(f"{key} is no mapping", _KINDS, "correct it")
    return value


def _number(value: Any, key: str, *, least: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise _error(f"{key}: {value!r}", f"it is a whole number from {max(least, 0)}", "correct it") from None
    if isinstance(value, bool) or number < least:
        raise _error(f"{key}: {value!r}", f"it is a whole number from {max(least, 0)}", "correct it")
    return number


def _truth(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes")


def _error(given: str, rule: str, remedy: str) -> RecipeError:
    return RecipeError(given=f"parallel.config: {given}", rule=rule, remedy=remedy)
