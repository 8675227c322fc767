"""Files of DeepSpeed and accelerate become a layout; what has no equivalent is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import RecipeError
from burnish.parallel.mesh import Mesh
from burnish.settings.other_layouts import GivenLayout, given_layout, layout_of_environment
from burnish.settings.parallel import Parallel


def zero(stage: int, **more: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **more}, "train_batch_size": "auto"}


def accelerate(kind: str, **more: Any) -> dict[str, Any]:
    return {"compute_environment": "LOCAL_MACHINE", "distributed_type": kind, "num_processes": 8, **more}


def dimensions(**sizes: int) -> dict[str, Any]:
    return accelerate("MULTI_GPU", parallelism_config={f"parallelism_config_{k}_size": v for k, v in sizes.items()})


LAYOUTS: Mapping[str, tuple[dict[str, Any], tuple[Any, Any, int, bool]]] = {
    "ZeRO 0": (zero(0), ("auto", 1, 1, False)),
    "ZeRO 1": (zero(1), ("auto", "auto", 1, False)),
    "ZeRO 2": (zero(2, overlap_comm=True), ("auto", "auto", 1, False)),
    "ZeRO 3": (zero(3, offload_param={"device": "cpu", "pin_memory": True}), ("auto", "auto", 1, True)),
    "ZeRO 3, offload off": (zero(3, offload_optimizer={"device": "none"}), ("auto", "auto", 1, False)),
    "ZeRO++": (zero(3, zero_hpz_partition_size=8), ("auto", 8, 1, False)),
    "MiCS": (zero(3, mics_shard_size=4), ("auto", 4, 1, False)),
    "ZeRO with tensor parallelism": ({**zero(1), "tensor_parallel": {"autotp_size": 2}}, ("auto", "auto", 2, False)),
    "accelerate, one": (accelerate("NO"), ("auto", 1, 1, False)),
    "accelerate, CPUs": (accelerate("MULTI_CPU", mixed_precision="no"), ("auto", 1, 1, False)),
    "FSDP 1": (accelerate("FSDP", fsdp_config={"fsdp_sharding_strategy": "FULL_SHARD"}), ("auto", "auto", 1, False)),
    "FSDP 1 by number": (accelerate("FSDP", fsdp_config={"fsdp_sharding_strategy": 2}), ("auto", "auto", 1, False)),
    "FSDP 1, none": (accelerate("FSDP", fsdp_config={"fsdp_sharding_strategy": "NO_SHARD"}), ("auto", 1, 1, False)),
    "FSDP 2": (
        accelerate("FSDP", fsdp_config={"fsdp_version": 2, "fsdp_offload_params": True}),
        ("auto", "auto", 1, True),
    ),
    "HSDP": (
        accelerate("FSDP", num_machines=2, fsdp_config={"fsdp_sharding_strategy": "HYBRID_SHARD"}),
        ("auto", 4, 1, False),
    ),
    "accelerate, ZeRO": (accelerate("DEEPSPEED", deepspeed_config={"zero_stage": 3}), ("auto", "auto", 1, False)),
    "ZeRO++ below stage 3": (zero(2, zero_hpz_partition_size=8), ("auto", "auto", 1, False)),
    "an open stage": ({"zero_optimization": {"stage": "auto"}}, ("auto", 1, 1, False)),
    "amp that is off": ({**zero(1), "amp": {"enabled": False}}, ("auto", "auto", 1, False)),
    "accelerate, an unquoted NO": (accelerate(False), ("auto", 1, 1, False)),  # type: ignore[arg-type]
    "accelerate, ZeRO without a stage": (accelerate("DEEPSPEED", deepspeed_config={}), ("auto", "auto", 1, False)),
    "dimensions, copies not given": (dimensions(dp_shard=8), (1, 8, 1, False)),
    "dimensions of one": (dimensions(dp_replicate=1, dp_shard=1, tp=1), ("auto", 1, 1, False)),
    "dimensions": (dimensions(dp_replicate=2, dp_shard=2, tp=2, cp=1), (2, 2, 2, False)),
}
REFUSED: Mapping[str, tuple[Any, str]] = {
    "NVMe": (zero(3, offload_param={"device": "nvme"}), "offload_param: nvme"),
    "float16": ({**zero(2), "fp16": {"enabled": True}}, "fp16 is enabled"),
    "quantized": (zero(3, zero_quantized_weights=True), "zero_quantized_weights"),
    "unknown": ({**zero(2), "sparse_attention": {"mode": "fixed"}}, "sparse_attention"),
    "stage 4": (zero(4), "stage: 4"),
    "a stage in words": (zero("three"), "stage: 'three'"),  # type: ignore[arg-type]
    "a true stage": (zero(True), "stage: True"),
    "a list": ([1, 2], "is no mapping"),
    "nothing": ({}, "is empty"),
    "another file": ({"model": "gpt"}, "has the keys model"),
    "a section of text": ({"zero_optimization": "yes"}, "zero_optimization is no mapping"),
    "Megatron": (accelerate("MEGATRON_LM"), "distributed_type: MEGATRON_LM"),
    "TPU": (accelerate("TPU"), "distributed_type: TPU"),
    "a strategy": (accelerate("FSDP", fsdp_config={"fsdp_sharding_strategy": "SOME"}), "fsdp_sharding_strategy: SOME"),
    "hybrid on unknown machines": (
        accelerate("FSDP", fsdp_config={"fsdp_sharding_strategy": "HYBRID_SHARD"}),
        "num_machines: None",
    ),
    "hybrid on machines of unequal size": (
        accelerate("FSDP", num_machines=3, fsdp_config={"fsdp_sharding_strategy": "HYBRID_SHARD"}),
        "8 processes on 3 machines",
    ),
    "an unknown key of accelerate": (accelerate("NO", num_procs=8), "num_procs"),
    "SageMaker": ({**accelerate("NO"), "compute_environment": "AMAZON_SAGEMAKER"}, "AMAZON_SAGEMAKER"),
    "two sizes of groups": (zero(3, zero_hpz_partition_size=8, mics_shard_size=8), "zero_hpz_partition_size and"),
    "sequences": (dimensions(cp=2), "cp_size"),
    "fp8": (accelerate("MULTI_GPU", mixed_precision="fp8"), "fp8 is enabled"),
}


def written(folder: Path, content: Any, name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
@pytest.mark.parametrize("case", LAYOUTS)
def test_a_file_becomes_a_layout(tmp_path: Path, case: str, name: str) -> None:
    content, expected = LAYOUTS[case]
    found = given_layout(written(tmp_path, content, name))
    assert (found.data, found.shard, found.tensor, found.cpu_offload) == expected
    settings = Parallel.model_validate({"config": str(tmp_path / name)})
    assert (settings.data, settings.shard, settings.tensor, settings.cpu_offload) == expected
    assert settings.mesh(8).size == 8


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_equivalent_is_named(tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    with pytest.raises(RecipeError) as refused:
        given_layout(written(tmp_path, content))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "- a\n- b",
        "a: [",
        "\x00",
        "zero_optimization: &a [*a]",
        "a: !!int ''",
        "a: !!bool perhaps",
        "a: !!timestamp x",
    ],
)
def test_a_broken_file_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError):
        given_layout(path)
    with pytest.raises(RecipeError, match=r"cannot be read"):
        given_layout(tmp_path / "missing.json")


def test_a_byte_order_mark_is_no_fault_and_a_repeated_key_is(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(zero(3)), encoding="utf-8-sig")
    assert given_layout(path).shard == "auto"
    path.write_text('{"zero_optimization": {"stage": 3, "stage": 2}}', encoding="utf-8")
    with pytest.raises(RecipeError, match="a key is there twice"):
        given_layout(path)


def test_a_deepspeed_file_of_accelerate_is_beside_it(tmp_path: Path) -> None:
    written(tmp_path, zero(3), "ds.json")
    inline = {"deepspeed_config_file": "ds.json", "zero3_init_flag": True}
    found = given_layout(written(tmp_path, accelerate("DEEPSPEED", deepspeed_config=inline), "a.yaml"))
    assert found.shard == "auto"
    assert found.without_effect == ("deepspeed_config.zero3_init_flag",)


def test_what_is_set_elsewhere_and_what_has_no_effect_are_told(tmp_path: Path) -> None:
    content = {**zero(2, overlap_comm=True), "gradient_clipping": 1.0, "bf16": {"enabled": True}}
    path = written(tmp_path, content)
    notes = Parallel.model_validate({"config": str(path)}).notes
    assert [line for line in notes if "optimizer.max_grad_norm" in line]
    assert [line for line in notes if "dtype: bfloat16" in line]
    assert notes[-1].endswith("zero_optimization.overlap_comm")


def test_keys_of_the_recipe_have_precedence(tmp_path: Path) -> None:
    path = written(tmp_path, zero(3))
    assert Parallel.model_validate({"config": str(path), "shard": 2}).mesh(4) == Mesh(data=2, shard=2)


def test_what_accelerate_launch_says() -> None:
    started = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}
    assert layout_of_environment({}) is None
    assert layout_of_environment(started) == GivenLayout(shard="auto", cpu_offload=True, without_effect=())
    sizes = {"DP_REPLICATE_SIZE": "2", "DP_SHARD_SIZE": "2", "TP_SIZE": "1", "CP_SIZE": "1"}
    named = {f"PARALLELISM_CONFIG_{key}": value for key, value in sizes.items()}
    found = Parallel().started({"ACCELERATE_USE_PARALLELISM_CONFIG": "true", **named})
    assert found.mesh(4) == Mesh(data=2, shard=2)
    assert Parallel(shard=4).started(started).shard == 4, "the recipe has precedence"
    deepspeed = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    assert Parallel().started(deepspeed).shard == "auto"
    unstated = {"ACCELERATE_USE_DEEPSPEED": "true"}
    assert Parallel().started(unstated).shard == "auto", "accelerate's own default is stage 2"
    assert layout_of_environment({"ACCELERATE_MIXED_PRECISION": "bf16"}) is None
    with pytest.raises(RecipeError, match="fp16 is enabled"):
        layout_of_environment({"ACCELERATE_MIXED_PRECISION": "fp16"})
    with pytest.raises(RecipeError, match="Megatron"):
        layout_of_environment({"ACCELERATE_USE_MEGATRON_LM": "true"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["zero_optimization", "fp16", "bf16", "distributed_type", "fsdp_config", "deepspeed_config", "parallelism_config"]
)


@given(st.dictionaries(KEYS | st.text(max_size=8), VALUES, max_size=5))
def test_anything_is_a_layout_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    path = written(tmp_path_factory.mktemp("any"), content)
    try:
        assert isinstance(given_layout(path), GivenLayout)
    except RecipeError:
        return
