"""kill -9 at random moments, the same command again: the final weights are bit for bit those of the uninterrupted run.

A moment is a Python call, counted from the start of the command: reading data, loading, stepping, writing a
checkpoint, exporting. A child is killed, the next resumes, until one finishes.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
from pathlib import Path

import pytest
import yaml

VARIANTS = {
    "full": ["learning_rate=1e-2"],
    "lora": ["adapter.kind=lora", "adapter.rank=4", "learning_rate=1e-2"],
    "lora-dropout": ["adapter.kind=lora", "adapter.rank=4", "adapter.dropout=0.2"],
    "lora-tokens": ["adapter.kind=lora", "adapter.rank=4", "chat_template=chatml", "add_tokens=template"],
    "masters": ["dtype=bfloat16", "schedule=wsd"],
    "muon": ["optimizer=muon", "learning_rate=1e-2"],
    "dora": ["adapter.kind=lora", "adapter.rank=4", "adapter.dora=true", "adapter.loraplus_ratio=4"],
    "pissa": ["adapter.kind=lora", "adapter.rank=4", "adapter.init=pissa"],
    "qlora": ["adapter.kind=qlora", "adapter.rank=4"],
    "freeze": ["adapter.freeze=['layers.0.mlp']"],
    "two-stages": ["adapter.kind=lora", "adapter.rank=4", "sft.learning_rate=1e-2"],
    "prefer": ["overlong=drop", "learning_rate=1e-2"],
    "prefer-moving": ["overlong=drop", "reference_sync_steps=2", "learning_rate=1e-2"],
    "prefer-kto": ["overlong=drop", "loss=kto", "adapter.kind=lora", "adapter.rank=4"],
    "prefer-turns": ["chat_template=FORGETFUL", "learning_rate=1e-2"],
    "turns": ["chat_template=FORGETFUL", "learning_rate=1e-2"],
    "reward": ["overlong=drop", "add_tokens=['<|pad|>']", "learning_rate=1e-2"],
    "reward-lora": ["overlong=drop", "add_tokens=['<|pad|>']", "adapter.kind=lora", "adapter.rank=4"],
    "rl": ["kl_coef=0.1", "learning_rate=1e-2"],
    "rl-updates": ["updates_per_batch=2", "curriculum=true", "adapter.kind=lora", "adapter.rank=4", "algorithm=dapo"],
    "ppo": ["kl_control=adaptive", "kl_target=0.1", "reward_shaping.normalize=scale", "learning_rate=1e-2"],
    "ppo-lora": ["adapter.kind=lora", "adapter.rank=4", "critic.value_warmup_steps=4", "kl_limit=0.001"],
    "ppo-ptx": ["ptx={data: 'builtin:chat#12', sequences_per_step: 5}", "policy_gradient.success_nll_coef=0.1"],
    "distill": ["teacher=TEACHER", "learning_rate=1e-2", "updates_per_batch=2"],
    "distill-self": [
        "teacher={model: student, ema_decay: 0.9, context: Be brief.}",
        "adapter.kind=lora",
        "adapter.rank=4",
    ],
    "distill-fraction": ["teacher=TEACHER", "on_policy_fraction=0.5", "divergence=jsd", "loss=full"],
    "distill-table": ["teacher={model: TEACHER, tables: TABLES}", "response_source=data", "learning_rate=1e-2"],
    "actor-critic": ["learning_rate=1e-2"],
    "actor-critic-lora": ["learning_rate=1e-2", "adapter.kind=lora", "adapter.rank=4", "shares_base=true"],
    "adamw_8bit": ["optimizer=adamw_8bit", "gradient_checkpointing=true"],
}

TOY = Path(__file__).parents[1] / "stages" / "actor_critic.py"
COMPARING = ("prefer", "reward")
"""Stages that learn from comparisons: how the names of their variants begin."""


def command(world: Path, output: Path, variant: str) -> list[str]:
    if variant == "two-stages":
        return ["run", str(two_stages(world, output)), f"output={output}", *VARIANTS[variant]]
    if variant.startswith("actor-critic"):
        return ["run", str(actor_critic(world, output)), f"output={output}", *VARIANTS[variant]]
    if variant.startswith("rl"):
        return [*rl_command(world, output, "rl", 7), *VARIANTS[variant]]
    if variant.startswith("ppo"):
        return [*rl_command(world, output, "ppo", 8), *VARIANTS[variant]]
    if variant.startswith("distill"):
        return distill_command(world, output, variant)
    compares = variant.startswith(COMPARING)
    method = variant.partition("-")[0] if compares else "sft"
    rows, tests = ("pairs", "pairs-test") if compares else ("train", "test")
    if variant.endswith("turns"):
        rows, tests = ("pairs-of-turns", "pairs-of-turns-test") if compares else ("turns", "turns-test")
    data = ["--data", world / f"{rows}.jsonl", "--eval-data", world / f"{tests}.jsonl"]
    files = ["--model", world / "model", *data]
    cadence = ["sequences_per_step=8", "checkpoint_every=3", "checkpoints.keep_last=1", "eval_every=5", "log_every=2"]
    cadence += [] if compares else ["evaluation.generations=3", "evaluation.max_new_tokens=4"]
    lengths = ["tokens_per_microbatch=900", "max_length=500"] if variant.endswith("turns") else []
    lengths = lengths or ["tokens_per_microbatch=300", "max_length=200"]
    stage = ["--output", output, "epochs=2", *lengths, *cadence]
    own = [word.replace("FORGETFUL", str(world / "forgetful.jinja")) for word in VARIANTS[variant]]
    return [method, *map(str, [*files, *stage]), *own]


def rl_command(world: Path, output: Path, method: str, steps: int) -> list[str]:
    """Responses of an untrained model, which a reward wants to be of ten characters."""
    files = ["--model", world / "model", "--data", world / "train.jsonl", "--eval-data", world / "test.jsonl"]
    stage = [
        "--output",
        output,
        "--max-steps",
        steps,
        "groups_per_step=3",
        "responses_per_prompt=3",
        "max_new_tokens=6",
        "reward_workers=1",
    ]
    cadence = ["checkpoint_every=2", "checkpoints.keep_last=1", "eval_every=3", "log_every=2", "log_samples_every=2"]
    reward = "reward={name: length, target: 10, tolerance: 20, unit: characters, cache: true}"
    return [method, *map(str, [*files, *stage, *cadence]), reward]


def distill_command(world: Path, output: Path, variant: str) -> list[str]:
    """Another untrained model teaches. The table of its probabilities is in a folder of its own, since one in the cache
    would be there before the first kill."""
    places = {"TEACHER": str(world / "teacher"), "TABLES": f"{output}-tables"}
    own = "\n".join(VARIANTS[variant])
    for name, place in places.items():
        own = own.replace(name, place)
    usual = rl_command(world, output, "distill", 8)
    given = "response_source=data" in VARIANTS[variant]
    return [
        *(each for each in usual if not (given and each.startswith(("responses_per_prompt", "log_samples_every")))),
        *own.split("\n"),
    ]


def actor_critic(world: Path, output: Path) -> Path:
    """A recipe with a stage in a file of one's own, which trains a policy and a critic."""
    sizes = {"groups_per_step": 3, "responses_per_prompt": 3, "max_new_tokens": 6, "max_steps": 7, "reward_workers": 1}
    cadence = {"checkpoint_every": 2, "checkpoints": {"keep_last": 1}, "eval_every": 3, "log_samples_every": 2}
    reward = {"name": "length", "target": 10, "tolerance": 20, "unit": "characters"}
    data = {"data": str(world / "train.jsonl"), "eval_data": str(world / "test.jsonl"), "reward": reward}
    path = output.with_suffix(".yaml")
    stage = {f"{TOY}:ActorCritic": {**data, **sizes, **cadence}}
    path.write_text(yaml.safe_dump({"model": str(world / "model"), "stages": [stage]}))
    return path


def two_stages(world: Path, output: Path) -> Path:
    """A recipe whose second stage continues the first one's adapter."""
    stage = {"eval_data": str(world / "test.jsonl"), "sequences_per_step": 8, "checkpoint_every": 3, "log_every": 2}
    stage |= {"evaluation": {"generations": 2, "max_new_tokens": 4}}
    first = {"data": str(world / "train.jsonl"), "max_length": 200, **stage}
    second = {"data": f"{world / 'train.jsonl'}#30", "max_length": 200, **stage}
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"model": str(world / "model"), "stages": [{"sft": first}, {"sft": second}]}))
    return path


def weights(output: Path) -> dict[str, str]:
    files = sorted((output / "model").glob("*.safetensors"))
    assert files, "the run has written a model"
    files += sorted(output.glob("checkpoints/*/tensors.safetensors"))  # a critic is not in the model
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def figures(output: Path) -> list[dict[str, object]]:
    """The lines of metrics.jsonl without what depends on the clock and the process."""
    clocked = {"tokens_per_second", "seconds_per_step", "mfu", "memory_gib", "wall_time_s"}
    clocked |= {"rollout/seconds_sampling", "rollout/seconds_grading"}
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clocked} for line in lines]


def kill_until_done(fork_server, world: Path, output: Path, variant: str, kills: int, calls: int, seed: int) -> int:
    """Kills the command `kills` times, each time within the calls of a whole run, then lets it finish."""
    draw = random.Random(seed)
    killed = 0
    for _ in range(kills):
        result = fork_server(*command(world, output, variant), kill_at=draw.randint(1, calls))
        assert result["status"] in (0, -signal.SIGKILL)
        killed += result["status"] == -signal.SIGKILL
    assert fork_server(*command(world, output, variant))["status"] == 0
    return killed


def check(fork_server, world, tmp_path, variant, kills, seed) -> None:
    whole = fork_server(*command(world, tmp_path / "whole", variant))
    assert whole["status"] == 0
    killed = kill_until_done(fork_server, world, tmp_path / "killed", variant, kills, whole["calls"], seed)
    assert killed > 0, "no kill fell into a run: the test tried nothing"
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    if not variant.startswith(COMPARING):  # comparisons ask nothing
        samples = [(tmp_path / name / "samples.jsonl").read_bytes() for name in ("killed", "whole")]
        assert samples[0] == samples[1] != b""


@pytest.mark.parametrize("variant", ["full", "rl-updates"])
def test_three_kills(fork_server, world, tmp_path, variant):
    check(fork_server, world, tmp_path, variant, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_ten_kills(fork_server, world, tmp_path, variant):
    check(fork_server, world, tmp_path, variant, kills=10, seed=1)
