"""Configuration files of DeepSpeed and accelerate, as a layout of processes in Burnish's own terms.

A file is read, never its tool: what says how weights are divided becomes a `GivenLayout`, what only tunes the other
tool's engine is named, what Burnish has in another place is told with that place, and anything else is refused. Facts
about the keys: accelerate 1.15 (commands/launch.py, utils/launch.py) and DeepSpeed's page of its configuration.
"""

from __future__ import annotations

import json
import os.path
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from burnish.config.text import parse_yaml
from burnish.errors import RecipeError

Size = int | Literal["auto"]
Block = Mapping[str, object]

_MICROBATCH = "set tokens_per_microbatch in the recipe instead, which bounds the memory and does not change the result"
_DTYPE = "set dtype: bfloat16 in the recipe instead"
_CHECKPOINTING = "set gradient_checkpointing in the recipe instead"
_TRACKERS = "set trackers in the recipe instead"
_PRECISION = "Burnish trains in float32 or bfloat16"
_QUANTIZED = "weights and gradients are exchanged in their own precision: a layout does not change the result"
_CONTEXT = "one sequence is not divided among processes: there is no context parallelism"
_TRAINING = "it changes what is trained, and Burnish does not have it"

DEEPSPEED_ELSEWHERE: Mapping[str, str] = {
    "train_batch_size": "set sequences_per_step in the recipe instead, the batch of all processes together",
    "train_micro_batch_size_per_gpu": _MICROBATCH,
    "gradient_accumulation_steps": _MICROBATCH,
    "gradient_clipping": "set optimizer.max_grad_norm in the recipe instead",
    "optimizer": "set optimizer and learning_rate in the recipe instead",
    "scheduler": "set learning_rate and schedule in the recipe instead",
    "activation_checkpointing": _CHECKPOINTING,
    "tensorboard": _TRACKERS,
    "wandb": _TRACKERS,
    "bf16": _DTYPE,
    "bfloat16": _DTYPE,
}
DEEPSPEED_TUNING = frozenset(
    "steps_per_print wall_clock_breakdown memory_breakdown dump_state zero_allow_untested_optimizer checkpoint aio "
    "zero_force_ds_cpu_optimizer communication_data_type seq_parallel_communication_data_type nebula data_types "
    "prescale_gradients gradient_predivide_factor sparse_gradients disable_allgather flops_profiler comms_logger "
    "csv_monitor compile graph_harvesting dataloader_drop_last use_data_before_expert_parallelism timers "
    "managed_gradient_accumulation".split()
)
DEEPSPEED_REFUSED: Mapping[str, str] = {"fp16": _PRECISION, "amp": _PRECISION} | dict.fromkeys(
    "elasticity autotuning curriculum_learning data_efficiency progressive_layer_drop compression_training msamp "
    "sparse_attention hybrid_engine eigenvalue weight_quantization".split(),
    _TRAINING,
)
"""Keys that are refused where they are switched on, with the reason."""
ZERO_TUNING = frozenset(
    "overlap_comm contiguous_gradients reduce_bucket_size allgather_bucket_size reduce_scatter allgather_partitions "
    "sub_group_size round_robin_gradients use_multi_rank_bucket_allreduce load_from_fp32_weights elastic_checkpoint "
    "ignore_unused_parameters legacy_stage1 memory_efficient_linear pipeline_loading_checkpoint override_module_apply "
    "log_trace_cache_warnings enable_sanity_checks save_muon_momentum_buffer_in_memory leaf_module zeropp_loco_param "
    "mics_hierarchical_params_gather cpu_offload_use_pin_memory compute_grad_norm parameter_alignment "
    "pin_memory".split()
)
"""Keys of zero_optimization that tune DeepSpeed's engine, as do all that begin with stage3_."""
ZERO_REFUSED: Mapping[str, str] = {
    "zero_quantized_weights": _QUANTIZED,
    "zero_quantized_nontrainable_weights": _QUANTIZED,
    "zero_quantized_gradients": _QUANTIZED,
    "zenflow": _TRAINING,
}
OFFLOAD_TUNING = frozenset(
    "nvme_path pin_memory buffer_count buffer_size max_in_cpu pipeline pipeline_read pipeline_write fast_init ratio "
    "super_offload convert_grad_on_cpu cpuadam_cores_perc".split()
)
TENSOR_TUNING = frozenset("tp_overlap_comm tp_grain_size preset_model partition_config keep_module_on_host".split())
INLINE_TUNING = frozenset(
    "zero3_init_flag zero3_save_16bit_model deepspeed_moe_layer_cls_names offload_optimizer_nvme_path "
    "offload_param_nvme_path".split()
)
INLINE_LAYOUT = frozenset(
    "zero_stage offload_optimizer_device offload_param_device gradient_clipping gradient_accumulation_steps".split()
)
"""Keys of accelerate's deepspeed_config that a file of DeepSpeed has in its own form."""
LAUNCH = frozenset(
    "compute_environment distributed_type mixed_precision num_processes num_machines machine_rank main_process_ip "
    "main_process_port rdzv_backend rdzv_conf same_network gpu_ids use_cpu main_training_function debug downcast_bf16 "
    "enable_cpu_affinity num_cpu_threads_per_process mpirun_config command_file commands max_restarts "
    "monitor_interval tee log_dir deepspeed_multinode_launcher deepspeed_hostfile deepspeed_inclusion_filter "
    "deepspeed_exclusion_filter".split()
)
"""Keys of accelerate that say who starts how many processes, as do all that begin with tpu_."""
KINDS: Mapping[str, str] = {"FSDP": "fsdp_config", "DEEPSPEED": "deepspeed_config"} | dict.fromkeys(
    ("NO", "MULTI_CPU", "MULTI_GPU"), ""
)
"""distributed_type of accelerate → the block that it reads; the others have no effect."""
BLOCKS = ("fsdp_config", "deepspeed_config", "megatron_lm_config", "fp8_config")
STRATEGIES: Mapping[str, Literal["all", "none", "machine"]] = {
    "FULL_SHARD": "all",
    "SHARD_GRAD_OP": "all",
    "NO_SHARD": "none",
    "HYBRID_SHARD": "machine",
    "HYBRID_SHARD_ZERO2": "machine",
}
"""Sharding strategies of FSDP 1, in the order of their numbers → the processes that share a copy of the weights."""
ENVIRONMENT: Mapping[str, str] = {
    f"ACCELERATE_{name}": key
    for name, key in (
        ("DEEPSPEED_ZERO_STAGE", "zero_stage"),
        ("DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "offload_optimizer_device"),
        ("DEEPSPEED_OFFLOAD_PARAM_DEVICE", "offload_param_device"),
        ("DEEPSPEED_ZERO3_INIT", "zero3_init_flag"),
        ("DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "zero3_save_16bit_model"),
        ("DEEPSPEED_CONFIG_FILE", "deepspeed_config_file"),
        ("DEEPSPEED_MOE_LAYER_CLS_NAMES", "deepspeed_moe_layer_cls_names"),
        ("GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps"),
        ("GRADIENT_CLIPPING", "gradient_clipping"),
    )
}
"""Variables that `accelerate launch` sets for DeepSpeed → the key of deepspeed_config."""

_SIZES = "parallelism_config_"
_NOTHING = (None, False, "auto", "none", "no", "NO")
_SWITCHED = frozenset({"bf16", "bfloat16", "fp16", "amp"})
"""Blocks that are off unless they say `enabled: true`; other blocks with content are on unless they say false."""


@dataclass(frozen=True, slots=True)
class GivenLayout:
    """The layout that another tool's configuration asks for.

    Example: ``{"zero_optimization": {"stage": 3, "overlap_comm": true}}`` is ``GivenLayout(shard="auto",
    without_effect=("zero_optimization.overlap_comm",))``.
    """

    data: Size = "auto"
    """Copies of the weights; auto: as many as the processes make."""
    shard: Size = 1
    """Processes that share a copy; auto: all that are left."""
    tensor: int = 1
    """Processes that divide every layer."""
    cpu_offload: bool = False
    """Whether sharded weights, gradients and the optimizer stay in the memory of the CPU."""
    without_effect: tuple[str, ...] = ()
    """Keys that tune the other tool's engine: they have no equivalent and do not change the result."""
    elsewhere: tuple[str, ...] = ()
    """Sentences `key: what to set in the recipe instead`."""


def given_layout(path: Path) -> GivenLayout:
    """Reads a ZeRO configuration of DeepSpeed (JSON) or a configuration of accelerate (YAML or JSON).

    Example: ``given_layout(Path("fsdp.yaml"))`` → ``GivenLayout(shard="auto", cpu_offload=True)``.

    Raises:
        RecipeError: the file cannot be read, is neither of the two, or asks for something that Burnish does not have.
    """
    config, found = _read(path), _Found(str(path))
    if "distributed_type" in config or "compute_environment" in config:
        return _accelerate(config, found, path.parent)
    return _deepspeed(config, found)


def layout_of_environment(environment: Mapping[str, str]) -> GivenLayout | None:
    """The layout that `accelerate launch` has set for its processes; None: it says nothing about one.

    Example: ``layout_of_environment({"ACCELERATE_USE_FSDP": "true"})`` → ``GivenLayout(shard="auto")``.

    Raises:
        RecipeError: it asks for something that Burnish does not have, such as mixed precision in fp16.
    """
    given = {name: text for name, text in environment.items() if text.lower() not in ("", "none")}
    used = [kind for kind in ("MEGATRON_LM", "DEEPSPEED", "FSDP") if _is_on(given.get(f"ACCELERATE_USE_{kind}"))]
    divided = _is_on(given.get("ACCELERATE_USE_PARALLELISM_CONFIG"))
    lower = {name.lower(): text for name, text in given.items()}
    blocks: dict[str, Block] = {
        "FSDP": {name: text for name, text in lower.items() if name.startswith("fsdp_")},
        "DEEPSPEED": {key: given[name] for name, key in ENVIRONMENT.items() if name in given},
    }
    kind = used[0] if used else "MULTI_GPU"
    config: dict[str, object] = {
        "distributed_type": kind,
        "mixed_precision": given.get("ACCELERATE_MIXED_PRECISION"),
        "dynamo_config": {"dynamo_backend": given.get("ACCELERATE_DYNAMO_BACKEND")},
        "parallelism_config": {key: text for key, text in lower.items() if divided and key.startswith(_SIZES)},
        "num_processes": (world := given.get("WORLD_SIZE")),
    }
    if kind in blocks:
        config[KINDS[kind]] = blocks[kind]
    if (local := given.get("LOCAL_WORLD_SIZE", "")).isdecimal() and (world or "").isdecimal():
        config["num_machines"] = max(1, int(world or 1) // max(1, int(local)))
    layout = _accelerate(config, _Found("the environment of accelerate launch"), Path())
    return layout if used or divided else None


def _deepspeed(config: Block, found: _Found) -> GivenLayout:
    """The layout of a configuration of DeepSpeed."""
    own = ("zero_optimization", "tensor_parallel", "sequence_parallel_size", "torch_autocast", "gradient_allreduce_op")
    if not config.keys() & {*own, *DEEPSPEED_ELSEWHERE, *DEEPSPEED_TUNING, *DEEPSPEED_REFUSED}:
        raise found.refused(
            "no key of DeepSpeed and none of accelerate",
            "a configuration of DeepSpeed has keys such as zero_optimization, one of accelerate has distributed_type",
            "give such a file, or set parallel.data, parallel.shard and parallel.tensor in the recipe",
        )
    if isinstance(zero := config.get("zero_optimization"), bool):  # an old form of stage 1
        config = {**config, "zero_optimization": {"stage": int(zero)}}
    shard, cpu_offload = _zero(found.block(config, "zero_optimization"), found)
    tensor = found.block(config, "tensor_parallel")
    found.sort(tensor, "tensor_parallel.", {"autotp_size"}, TENSOR_TUNING)
    if (found.count(config, "sequence_parallel_size") or 1) > 1:
        raise found.refused("sequence_parallel_size", _CONTEXT, "remove it; parallel.tensor divides layers instead")
    autocast = found.block(config, "torch_autocast")
    if not _is_off("fp16", autocast):
        if autocast.get("dtype", "bfloat16") not in ("bfloat16", "torch.bfloat16", "auto"):
            raise found.refused("torch_autocast.dtype", _PRECISION, "remove it, and set dtype: bfloat16 in the recipe")
        found.elsewhere.append(f"torch_autocast: {_DTYPE}")
    if config.get("gradient_allreduce_op") not in (None, "mean", "auto"):
        raise found.refused("gradient_allreduce_op", "gradients are divided by the counts of a step", "remove it")
    found.sort(config, "", own, DEEPSPEED_TUNING, DEEPSPEED_ELSEWHERE, DEEPSPEED_REFUSED)
    size = found.count(tensor, "autotp_size", "tensor_parallel.", least=0) or 1
    return found.layout(shard=shard, tensor=size, cpu_offload=cpu_offload)


def _zero(zero: Block, found: _Found) -> tuple[Size, bool]:
    """Processes that share the weights, and whether they lie in the memory of the CPU."""
    place, parts = "zero_optimization.", ("offload_optimizer", "offload_param")
    stage, sizes = zero.get("stage", 0), {"zero_hpz_partition_size": 0, "mics_shard_size": -1}
    shard = _sharded(stage, f"{place}stage", found)
    cpu_offload = _is_on(zero.get("cpu_offload")) or _is_on(zero.get("cpu_offload_param"))
    for part in parts:
        block = found.block(zero, part, place)
        found.sort(block, f"{place}{part}.", {"device"}, OFFLOAD_TUNING)
        cpu_offload |= _is_cpu(block.get("device"), f"{place}{part}.device", found)
    given = {key: found.count(zero, key, place, least=least) or 0 for key, least in sizes.items()}
    groups = {key: size for key, size in given.items() if size > (key == "zero_hpz_partition_size")}
    if groups and str(stage) not in ("3", "auto"):
        found.without_effect.extend(place + key for key in groups)
    elif len(groups) > 1:
        raise found.refused(" and ".join(groups), "weights are copied in groups of one size", "remove one of them")
    elif groups:
        (key, shard), *_ = groups.items()
        found.elsewhere.append(f"{place}{key}: gradients and the optimizer are divided in groups of {shard}, too")
    own = {"stage", "cpu_offload", "cpu_offload_param", *parts, *sizes}
    tuning = ZERO_TUNING | {key for key in zero if key.startswith("stage3_")}
    found.sort(zero, place, own, tuning, refused=ZERO_REFUSED)
    return shard, cpu_offload


def _sharded(stage: object, key: str, found: _Found) -> Size:
    """Processes that share the weights at a stage of ZeRO."""
    if stage is None or stage == "auto":
        return "auto" if stage else 1
    if isinstance(stage, bool | float) or (number := str(_short(stage))) not in ("0", "1", "2", "3"):
        raise found.refused(f"{key}: {_short(stage)}", "a stage of ZeRO is 0, 1, 2 or 3", "correct it")
    if number in ("1", "2"):
        found.elsewhere.append(f"{key}: stage {number} becomes parallel.shard, which divides the weights, too")
    return 1 if number == "0" else "auto"


def _is_cpu(device: object, key: str, found: _Found) -> bool:
    """Whether something is offloaded to the memory of the CPU."""
    if device in _NOTHING or device == "cpu":
        return device == "cpu"
    raise found.refused(
        f"{key}: {_short(device)}",
        "Burnish offloads to the memory of the CPU, not to disks",
        "set it to cpu (parallel.cpu_offload), or remove it",
    )


def _accelerate(config: Block, found: _Found, folder: Path) -> GivenLayout:
    """The layout of a configuration of accelerate, which lies in a folder."""
    kind = "NO" if (given := config.get("distributed_type")) is False else given  # YAML reads NO as false
    if config.get("compute_environment") not in (None, "LOCAL_MACHINE"):
        raise found.refused("compute_environment", "processes run on machines of your own", "set it to LOCAL_MACHINE")
    if not isinstance(kind, str) or kind not in KINDS:
        raise found.refused(
            f"distributed_type: {_short(kind)}" if kind else "no distributed_type",
            f"Burnish has an equivalent of {', '.join(KINDS)}",
            "set it to one of these",
        )
    _require_precision(config, found)
    dynamo = {"dynamo_backend": config.get("dynamo_backend")} | dict(found.block(config, "dynamo_config"))
    if any(dynamo.get(key) not in _NOTHING for key in ("dynamo_backend", "backend")):
        found.without_effect.append("dynamo_config")
    found.without_effect += [key for key in BLOCKS if key != KINDS[kind] and found.block(config, key)]
    shard: Size = 1
    data: Size = "auto"
    tensor, cpu_offload, block = 1, False, found.block(config, KINDS[kind])
    if kind == "FSDP":
        shard, cpu_offload = _fsdp(block, config, found)
    elif kind == "DEEPSPEED":
        shard, tensor, cpu_offload = _inline_deepspeed(block, found, folder)
    sizes = _sizes(found.block(config, "parallelism_config"), found)
    if sizes != (1, 1, 1):
        data, shard, tensor = sizes
    own = {*LAUNCH, *BLOCKS, "dynamo_config", "dynamo_backend", "parallelism_config"}
    own |= {key for key in config if key.startswith("tpu_")}
    found.sort(config, "", own, refused={"fp16": _PRECISION})
    return found.layout(data, shard, tensor, cpu_offload)


def _require_precision(config: Block, found: _Found) -> None:
    """Refuses a mixed precision that Burnish does not have, and says where bfloat16 is set."""
    precision = config.get("mixed_precision")
    if precision == "bf16":
        found.elsewhere.append(f"mixed_precision: {_DTYPE}")
    elif precision not in _NOTHING:
        remedy = "set it to bf16 or no, and dtype in the recipe"
        raise found.refused(f"mixed_precision: {_short(precision)}", _PRECISION, remedy)


def _fsdp(block: Block, config: Block, found: _Found) -> tuple[Size, bool]:
    """Processes that share the weights, and whether they lie in the memory of the CPU."""
    fsdp = {key if key.startswith("fsdp") else f"fsdp_{key}": value for key, value in block.items()}
    own = {"fsdp_version", "fsdp_offload_params", "fsdp_activation_checkpointing", "fsdp_sharding_strategy"}
    strategy, reshard = fsdp.get("fsdp_sharding_strategy"), fsdp.get("fsdp_reshard_after_forward")
    if strategy is None and str(_short(reshard)).upper() in STRATEGIES:  # where a file of FSDP 1 has it
        strategy, own = reshard, own | {"fsdp_reshard_after_forward"}
    if (found.count(fsdp, "fsdp_version") or 1) > 2:
        raise found.refused("fsdp_version", "FSDP has the versions 1 and 2", "set it to 2")
    if _is_on(fsdp.get("fsdp_activation_checkpointing")):
        found.elsewhere.append(f"fsdp_activation_checkpointing: {_CHECKPOINTING}")
    found.sort(fsdp, "", own, fsdp.keys())
    numbers = {str(number): name for number, name in enumerate(STRATEGIES, 1)}
    name = "FULL_SHARD" if strategy is None else str(_short(strategy)).upper()
    if isinstance(strategy, bool) or (name := numbers.get(name, name)) not in STRATEGIES:
        raise found.refused(
            f"fsdp_sharding_strategy: {_short(strategy)}",
            f"a strategy is {', '.join(STRATEGIES)}, or its number",
            "correct it, or remove it: weights are sharded among all processes",
        )
    shards: Mapping[str, Size] = {"all": "auto", "none": 1}
    shard = shards[STRATEGIES[name]] if STRATEGIES[name] in shards else _machine(name, config, found)
    return shard, _is_on(fsdp.get("fsdp_offload_params"))


def _machine(strategy: str, config: Block, found: _Found) -> int:
    """Processes of one machine."""
    processes, machines = found.count(config, "num_processes"), found.count(config, "num_machines")
    if processes and machines and processes % machines == 0:
        return processes // machines
    raise found.refused(
        f"{strategy} with num_processes {_short(processes)} and num_machines {_short(machines)}",
        "each machine has a copy of the weights, divided among its processes, of which all have the same number",
        "set num_processes and num_machines, or set parallel.shard in the recipe instead of giving this file",
    )


def _inline_deepspeed(block: Block, found: _Found, folder: Path) -> tuple[Size, int, bool]:
    """Processes that share the weights, that divide layers, and whether weights lie in the memory of the CPU."""
    keys = ("gradient_accumulation_steps", "gradient_clipping")
    elsewhere = {key: DEEPSPEED_ELSEWHERE[key] for key in keys}
    found.sort(block, "", {*LAUNCH, *INLINE_LAYOUT, "deepspeed_config_file"} - {*keys}, INLINE_TUNING, elsewhere)
    if (file := block.get("deepspeed_config_file")) in _NOTHING:
        stage, devices = block.get("zero_stage"), ("offload_optimizer_device", "offload_param_device")
        shard = _sharded(2 if stage is None else stage, "zero_stage", found)  # accelerate's default is 2
        return shard, 1, any([_is_cpu(block.get(key), key, found) for key in devices])
    if not isinstance(file, str) or not file.isprintable():
        raise found.refused(f"deepspeed_config_file: {_short(file)}", "it is the path of a file", "correct it")
    if twice := sorted(key for key in INLINE_LAYOUT if block.get(key) not in (None, "auto")):
        raise found.refused(
            f"deepspeed_config_file and {', '.join(twice)}", "with a file, all is set in the file", "remove the latter"
        )
    path = folder / file if os.path.exists(folder / file) else Path(file)  # accelerate: from the current folder
    layout = _deepspeed(_read(path), _Found(str(path)))
    found.without_effect += layout.without_effect
    found.elsewhere += layout.elsewhere
    return layout.shard, layout.tensor, layout.cpu_offload


def _sizes(block: Block, found: _Found) -> tuple[int, int, int]:
    """data, shard and tensor of accelerate's parallelism_config."""
    names = [f"{_SIZES}{part}_size" for part in ("dp_replicate", "dp_shard", "tp", "cp", "sp")]
    data, shard, tensor, *others = [found.count(block, name) or 1 for name in names]
    for name, size in zip(names[3:], others, strict=True):
        if size > 1:
            raise found.refused(f"{name}: {_short(size)}", _CONTEXT, "set it to 1; parallel.tensor divides layers")
    of_others = {key for key in block if key.startswith((f"{_SIZES}cp_", f"{_SIZES}sp_"))}
    found.sort(block, "", {*names, *of_others})
    return data, shard, tensor


@dataclass(slots=True)
class _Found:
    """What has been read so far from one place."""

    place: str
    without_effect: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def refused(self, given: str, rule: str, remedy: str) -> RecipeError:
        return RecipeError(given=f"{self.place}: {given}", rule=rule, remedy=remedy)

    def layout(self, data: Size = "auto", shard: Size = 1, tensor: int = 1, cpu_offload: bool = False) -> GivenLayout:
        if cpu_offload and shard == 1:
            raise self.refused(
                "weights or the optimizer are offloaded to the CPU, and not sharded",
                "weights that are not sharded stay on the device",
                "shard them (stage 3 of ZeRO, or FULL_SHARD of FSDP), or remove the offload",
            )
        unique = (tuple(dict.fromkeys(names)) for names in (self.without_effect, self.elsewhere))
        return GivenLayout(data, shard, tensor, cpu_offload, *unique)

    def block(self, config: Block, key: str, prefix: str = "") -> Block:
        """The group of keys at a key; empty where there is none."""
        value = config.get(key)
        return {} if value is None or value == "auto" else _mapping(value, f"{self.place}: {prefix}{key}")

    def count(self, config: Block, key: str, prefix: str = "", least: int = 1) -> int | None:
        """The number at a key; None where there is none."""
        value = config.get(key)
        if value is None or value == "auto":
            return None
        if isinstance(value, str) and len(value) < 10 and value.removeprefix("-").isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 10**9:
            raise self.refused(
                f"{prefix}{key}: {_short(value)}", f"it is a whole number, at least {least}", "correct it"
            )
        return value

    def sort(
        self,
        config: Block,
        prefix: str,
        own: Collection[str],
        tuning: Collection[str] = (),
        elsewhere: Mapping[str, str] | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        """Puts every key in its list, and refuses the first that is in no table.

        Args:
            config: keys and values.
            prefix: what stands before a key in messages.
            own: keys that are read elsewhere.
            tuning, elsewhere, refused: the tables; a value that is null or auto is never named.
        """
        for key, value in config.items():
            if key in own or value is None or value == "auto":
                continue
            if key in tuning:
                self.without_effect += [] if isinstance(value, Mapping) and _is_off(key, value) else [prefix + key]
            elif elsewhere and key in elsewhere:
                self.elsewhere += [] if _is_off(key, value) else [f"{prefix}{key}: {elsewhere[key]}"]
            elif not refused or key not in refused:
                raise self.refused(f"{prefix}{key}", "this key has no equivalent in Burnish", f"remove {prefix}{key}")
            elif not _is_off(key, value):
                remedy = (
                    "set dtype: bfloat16 in the recipe, and remove it" if refused[key] == _PRECISION else "remove it"
                )
                raise self.refused(f"{prefix}{key}", refused[key], f"{remedy} or switch it off")


def _read(path: Path) -> Block:
    """The mapping that a JSON or YAML file holds.

    Raises:
        RecipeError: it cannot be read, or holds something else.
    """
    rule = "a configuration of DeepSpeed or accelerate is a readable file of valid JSON or YAML, every key once"
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix not in (".yaml", ".yml") and text.lstrip().startswith("{")
        value = json.loads(text, object_pairs_hook=_once) if is_json else parse_yaml(text, str(path))
    except RecipeError as error:
        raise RecipeError(error.given, rule, error.remedy) from error
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", rule, f"check the path; {Path.cwd()} is current") from error
    except RecursionError as error:
        raise RecipeError(f"{path}: nested too deeply", rule, "correct the file") from error
    except (ValueError, LookupError, AttributeError) as error:  # the last two: YAML values that do not fit their tags
        why = error if isinstance(error, ValueError) else "a value does not fit its tag"
        raise RecipeError(f"{path}: {why}", rule, "correct the file") from error
    return _mapping(value, str(path))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if twice := [key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])]:
        raise ValueError(f"the key {_short(twice[0])} occurs twice")
    return dict(pairs)


def _mapping(value: object, place: str) -> Block:
    """A value as a mapping with names as keys, or an error."""
    if not isinstance(value, dict):
        raise RecipeError(f"{place}: {_short(value)}", "it is a mapping of keys to values", "correct it")
    for key in value:
        if not isinstance(key, str) or not key.isprintable():
            raise RecipeError(f"{place}: the key {_short(key)}", "a key is a name", "correct it")
    return value


def _is_on(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "y", "t", "on", "1"))


def _is_off(key: str, value: object) -> bool:
    """Whether a setting or a block is switched off."""
    if isinstance(value, Mapping):
        value = value.get("enabled", bool(value) and key not in _SWITCHED)
    return value is None or value is False or (isinstance(value, str) and value.lower() in ("auto", "false", "none"))


def _short(value: object) -> str:
    """A value for a message: text as it is, else its representation, both of bounded length."""
    try:
        return value if isinstance(value, str) and value.isprintable() and len(value) < 80 else reprlib.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a very long number"
