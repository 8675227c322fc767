"""The stage ppo: what may be written, what its loop does, where its critic begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError, RecipeError
from burnish.model.policy import Model
from burnish.recipe.read import stage_recipe
from burnish.roles.scorer import LiveScorer
from burnish.stages.context import StageContext
from burnish.stages.kind import kind_of
from burnish.stages.models import load_models
from burnish.stages.ppo.settings import PpoSettings
from burnish.stages.role import CRITIC, POLICY, Role
from burnish.types import Group, Score
from tests.conftest import make_groups

LENGTH: dict[str, Any] = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}
SHARED: dict[str, Any] = {"is_critic": True, "shares_base": True}
LORA = {"kind": "lora", "rank": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_untrained(folder / "other", seed=5, hidden_size=32, layers=1)
    write_rows(folder / "math.jsonl", builtin_rows("math", count=40))
    write_rows(folder / "test.jsonl", builtin_rows("math", "test", count=4))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=16))
    for name, adapter in (("rm", {"kind": "full"}), ("rm-lora", LORA)):
        burnish.reward(
            model=folder / "model",
            data=folder / "pairs.jsonl",
            output=folder / name,
            adapter=adapter,
            overlong="drop",
            add_tokens=["<|pad|>"],
            max_steps=2,
            sequences_per_step=4,
            learning_rate=1e-2,
        )
    return folder


def given(world: Path, **settings: Any) -> dict[str, Any]:
    base = {"model": str(world / "model"), "data": str(world / "math.jsonl"), "reward": LENGTH, "reward_workers": 1}
    sizes = {"groups_per_step": 2, "responses_per_prompt": 3, "max_new_tokens": 5, "log_every": 1, "max_steps": 4}
    return {**base, **sizes, "learning_rate": 1e-2, "critic": {"learning_rate": 1e-2}, **settings}


def stage(world: Path, **settings: Any) -> PpoSettings:
    found = stage_recipe("ppo", given(world, **settings)).recipe.stages[0].settings
    assert isinstance(found, PpoSettings)
    return found


def run(world: Path, output: Path, **settings: Any) -> burnish.RunResult:
    return burnish.ppo(output=output, **given(world, **settings))


def steps(result: burnish.RunResult) -> list[dict[str, Any]]:
    return [line for line in result.metrics if line["step"] > 0]


# What may be written


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gae": {"gamma": 1.5}}, "gamma"),
        ({"gae": {"gae_lambda": -0.1}}, "gae_lambda"),
        ({"gae": {"gae_lambda": 0.9, "length_adaptive_alpha": 0.05}}, "give one of the two"),
        ({"kl_control": "adaptive"}, "kl_control: adaptive needs kl_target"),
        ({"kl_control": "adaptive", "kl_target": 6.0, "kl_coef": 0}, "0 stays 0"),
        ({"kl_target": 6.0}, "no effect with kl_control: fixed"),
        ({"kl_coef": 0, "kl_estimator": "k3"}, "no effect with kl_coef: 0"),
        ({"max_steps": 6}, "ends within a batch of rollouts, which has 4 steps"),
        ({"critic": {"value_warmup_steps": 2}}, "critic.value_warmup_steps: 2 ends within a batch"),
        ({"critic": {"value_warmup_steps": 4}}, "the policy is never trained"),
        ({"epochs_per_batch": 1, "minibatches_per_epoch": 1, "kl_limit": 0.1}, "ratio is exactly 1"),
        (
            {"epochs_per_batch": 1, "minibatches_per_epoch": 1, "policy_gradient": {"clip_low": 0.1}},
            "policy_gradient.clip_low has no effect",
        ),
        ({"policy_gradient": {"importance_correction": "tis"}}, "with old_logprobs: sampler"),
        ({"policy_gradient": {"fixed_length": 8}}, "loss_aggregation: fixed"),
        ({"policy_gradient": {"entropy_target": 1.0, "success_nll_coef": 0.1}}, "success_nll_coef"),
        ({"sampling": {"top_p": 0.9}}, "sampling.top_p"),
        ({"adapter": {"kind": "lora", "init": "pissa"}}, "critic"),
        ({"adapter": {"kind": "lora", "dropout": 0.1}}, "adapter.dropout"),
        ({"critic": {"lerning_rate": 1.0}}, "learning_rate"),
        ({"critic": {"optimizer": {"ema_decay": 0.9}}}, "critic.optimizer.ema_decay has no effect"),
        ({"critic": {"value_clip": 0.2}, "epochs_per_batch": 1, "minibatches_per_epoch": 1}, "critic.value_clip"),
        ({"policy_gradient": {"old_logprobs": "policy"}}, "takes the ratio as 1"),
        ({"policy_gradient": {"mask_truncated": True}, "gae": {"bootstrap_truncated": True}}, "bootstrap_truncated"),
        (
            {"policy_gradient": {"mask_truncated": True}, "reward_shaping": {"missing_end_penalty": 1.0}},
            "missing_end_penalty",
        ),
        ({"checkpoints": {"best_metric": "reward/gold", "keep_best": True}, "eval_share": 0.1}, "reward/length"),
        ({"kl_control": "adaptive", "kl_target": 1.0, "kl_coef_gain": 5.0}, "kl_coef_gain"),
    ],
)
def test_what_cannot_work_is_refused_when_the_recipe_is_read(world: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        stage(world, **settings)
    assert words in str(caught.value)


def test_defaults_in_force(world: Path) -> None:
    found = stage(world)
    assert found.resolved_old == "sampler"
    assert found.credit.gae_lambda == 0.95
    assert stage(world, epochs_per_batch=1, minibatches_per_epoch=1).resolved_old == "policy"
    assert not stage(world, kl_coef=0).needs_reference
    assert found.resolved_defaults["policy_gradient.clip_low"].value == 0.2


def test_epochs_are_whole_batches(world: Path) -> None:
    """40 prompts, batches of 4 prompts and 4 steps: 40 steps; 10 batches."""
    recipe = stage_recipe("ppo", {**given(world), "max_steps": None, "epochs": 1.0}).recipe
    context: StageContext[Any] = StageContext.of(recipe)
    kind = kind_of(recipe.stages[0])
    data = kind.open(context)
    with data.background:
        job = kind.build(data, load_models(context, kind.roles(recipe, context.settings)), "ppo")
    assert job.source.num_steps == 40


# The loop


@pytest.fixture(scope="module")
def plain(world: Path) -> burnish.RunResult:
    return run(world, world / "plain", max_steps=8)


def test_a_batch_has_its_metrics_once_and_a_line_for_each_step(plain: burnish.RunResult) -> None:
    lines = steps(plain)
    assert len(lines) == 8
    rolled = [line["step"] for line in lines if "rollout/reward" in line]
    assert rolled == [1, 5]
    for name in ("response_kl", "kl_coef", "value_bias", "value_calibration_error", "explained_variance"):
        assert f"rollout/{name}" in lines[0]
    assert all(f"train/{name}" in line for line in lines for name in ("loss", "critic/loss", "critic/learning_rate"))


def test_the_reference_is_the_policy_at_the_start_and_ratios_begin_at_one(plain: burnish.RunResult) -> None:
    lines = steps(plain)
    assert lines[0]["rollout/response_kl"] == pytest.approx(0, abs=1e-5)
    assert lines[0]["train/approx_kl"] == pytest.approx(0, abs=1e-6)
    assert lines[3]["train/approx_kl"] > 1e-6
    assert lines[4]["rollout/response_kl"] > 1e-5


def test_a_critic_without_training_predicts_zero(plain: burnish.RunResult) -> None:
    """Its head is 0, so its bias is minus the mean return."""
    first = steps(plain)[0]
    assert first["rollout/explained_variance"] == pytest.approx(0, abs=1e-6)
    assert first["rollout/value_bias"] < 0


def weights(folder: Path, role: str) -> dict[str, Tensor]:
    [checkpoint] = sorted(folder.glob("checkpoints/*/tensors.safetensors"))[-1:]
    prefix = f"roles/{role}/weights/"
    return {name: tensor for name, tensor in load_file(checkpoint).items() if name.startswith(prefix)}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    assert first.keys() == second.keys() != set()
    return all(first[name].equal(second[name]) for name in first)


def test_in_the_value_warmup_the_critic_alone_is_trained(world: Path, tmp_path: Path) -> None:
    critic = {"learning_rate": 1e-2, "value_warmup_steps": 4}
    adaptive = {"kl_control": "adaptive", "kl_target": 1.0, "schedule": "linear"}
    result = run(world, tmp_path / "run", max_steps=8, critic=critic, **adaptive)
    lines = steps(result)
    coefs = [line["rollout/kl_coef"] for line in lines if "rollout/kl_coef" in line]
    assert coefs == [0.05, 0.05], "in the warm-up the policy has no divergence to be held by"
    assert [line.get("train/paused") for line in lines] == [1.0] * 4 + [None] * 4
    assert all(line["train/critic/grad_norm"] > 0 for line in lines)
    assert [line["train/learning_rate"] > 0 for line in lines] == [False] * 4 + [True] * 4
    assert lines[4]["rollout/response_kl"] == pytest.approx(0, abs=1e-5), "the policy has not moved"
    assert lines[4]["train/learning_rate"] == 1e-2, "its schedule begins after the warm-up"


def test_a_stage_that_only_warms_up_is_refused(world: Path, tmp_path: Path) -> None:
    critic = {"learning_rate": 1e-2, "value_warmup_steps": 40}
    with pytest.raises(RecipeError, match="a stage of 40 steps"):
        run(world, tmp_path / "run", max_steps=None, epochs=1.0, critic=critic)


def test_a_dry_run_changes_nothing(world: Path, tmp_path: Path) -> None:
    """An adaptive coefficient is not that of one batch more."""
    adaptive = {"kl_control": "adaptive", "kl_target": 1e-6, "max_steps": 8}
    runs = [run(world, tmp_path / str(dry), dry_run=dry, **adaptive) for dry in (True, False)]
    first, second = ([line.get("rollout/kl_coef") for line in steps(each)] for each in runs)
    assert first == second
    assert same(weights(runs[0].folder, POLICY), weights(runs[1].folder, POLICY))


def test_a_finished_run_is_extended_bit_for_bit(world: Path, tmp_path: Path) -> None:
    """The last batch of a run is whole, so its last checkpoint is that of a longer run too."""
    flat = {"schedule": {"kind": "constant", "warmup_ratio": 0.0}}
    critic = {"critic": {"learning_rate": 1e-2, **flat}}
    run(world, tmp_path / "run", max_steps=8, **flat, **critic)
    longer = run(world, tmp_path / "run", max_steps=12, **flat, **critic)
    whole = run(world, tmp_path / "whole", max_steps=12, **flat, **critic)
    assert len(steps(longer)) == 12
    for role in (POLICY, CRITIC):
        assert same(weights(longer.folder, role), weights(whole.folder, role))


def test_the_best_weights_by_a_reward_that_is_not_trained(world: Path, tmp_path: Path) -> None:
    """The gold reward of over-optimization."""
    rewards = [LENGTH, {"name": "regex", "pattern": ".", "match": "search", "metric": "gold", "weight": 0}]
    checkpoints = {"keep_best": True, "best_metric": "reward/gold"}
    data = {"eval_data": str(world / "test.jsonl"), "eval_every": 4}
    result = run(world, tmp_path / "run", max_steps=8, reward=rewards, checkpoints=checkpoints, **data)
    assert "best_step" in result.summary


def test_masked_responses_are_in_no_loss(world: Path, tmp_path: Path) -> None:
    """Responses of one token are all truncated: neither policy nor critic has a token to learn from."""
    parts = {"policy_gradient": {"mask_truncated": True}, "max_new_tokens": 1, "critic": {"learning_rate": 1e-2}}
    lines = steps(run(world, tmp_path / "run", **parts))
    truncated = [line["rollout/finished"] for line in lines if "rollout/finished" in line]
    assert truncated == [0.0]
    assert all(line["train/critic/loss"] == 0 for line in lines)


def test_given_text_has_the_temperature_one(world: Path, tmp_path: Path) -> None:
    """Whatever the temperature at which responses are sampled."""
    ptx = {"data": str(world / "math.jsonl"), "sequences_per_step": 8}
    runs = [run(world, tmp_path / str(t), ptx=ptx, sampling={"temperature": t}) for t in (1.0, 2.0)]
    first, second = (steps(each)[0]["train/ptx"] for each in runs)
    assert first == pytest.approx(second, rel=1e-6)


def test_a_batch_stops_at_the_limit_and_the_next_one_goes_on(world: Path, tmp_path: Path) -> None:
    lines = steps(run(world, tmp_path / "run", max_steps=8, kl_limit=1e-9, epochs_per_batch=4, minibatches_per_epoch=1))
    assert [line.get("train/paused") for line in lines] == [None, None, 1.0, 1.0] * 2
    assert all("train/critic/loss" in line for line in lines)


def test_shaped_rewards_are_credited_and_metrics_are_of_rewards_before(world: Path, tmp_path: Path) -> None:
    """Every response is truncated or not: a penalty of 100 shows in returns, and not in the reward."""
    shaping = {"missing_end_penalty": 100.0}
    lines = steps(run(world, tmp_path / "run", reward_shaping=shaping, kl_coef=0))
    assert 0 <= lines[0]["rollout/reward"] <= 1
    assert lines[0]["rollout/value_bias"] > 10


def test_given_text_keeps_its_likelihood(world: Path, tmp_path: Path) -> None:
    """The term falls when its weight is large, and it has rows of its own in every step."""
    ptx = {"data": str(world / "math.jsonl"), "coef": 20.0, "sequences_per_step": 8}
    lines = steps(run(world, tmp_path / "run", max_steps=12, ptx=ptx))
    terms = [line["train/ptx"] for line in lines]
    assert terms[-1] < 0.9 * terms[0]


def test_right_responses_are_made_likelier(world: Path, tmp_path: Path) -> None:
    parts = {"success_nll_coef": 0.5}
    lines = steps(run(world, tmp_path / "run", policy_gradient=parts, success_threshold=0.0))
    assert all(line["train/success_nll"] > 0 for line in lines)


def test_an_adaptive_coefficient_is_resumed(world: Path, tmp_path: Path) -> None:
    """It changes from batch to batch, and a resumed run has the values of an undisturbed one."""
    adaptive = {"kl_control": "adaptive", "kl_target": 1e-6, "kl_coef_gain": 1.0, "max_steps": 12}
    shaping = {"reward_shaping": {"normalize": "standardize", "clip": 2.0}}
    whole = run(world, tmp_path / "whole", **adaptive, **shaping)
    coefs = [line["rollout/kl_coef"] for line in steps(whole) if "rollout/kl_coef" in line]
    assert coefs == pytest.approx([0.05, 0.05 * 0.8, 0.05 * 0.8 * 1.2])

    def stops(step: Any) -> bool:
        return step.step != 6

    with pytest.raises(burnish.errors.Interrupted):  # type: ignore[attr-defined]
        run(world, tmp_path / "resumed", **adaptive, **shaping, on_step=stops)
    resumed = run(world, tmp_path / "resumed", **adaptive, **shaping)
    assert [each.get("rollout/kl_coef") for each in steps(resumed)] == [
        each.get("rollout/kl_coef") for each in steps(whole)
    ]
    for role in (POLICY, CRITIC):
        assert same(weights(tmp_path / "whole", role), weights(tmp_path / "resumed", role))


# Where the critic begins


def models(world: Path, **settings: Any) -> dict[str, Model]:
    recipe = stage_recipe("ppo", given(world, **settings)).recipe
    context: StageContext[Any] = StageContext.of(recipe)
    kind = kind_of(recipe.stages[0])
    return load_models(context, kind.roles(recipe, context.settings))


def values_of(model: Model, groups: list[Group]) -> Tensor:
    scores = LiveScorer(model).score(groups, Score.STATE_VALUE, 512)
    return torch.cat([each for of_group in scores for each in of_group])


def test_a_critic_that_begins_as_a_reward_model_has_its_head(world: Path) -> None:
    """The value after a response is the reward model's score of it."""
    groups = make_groups([(4, [5, 3])], 0)
    critic = models(world, critic={"model": str(world / "rm")})[CRITIC]
    assert critic.is_reward_model
    reward_model = burnish_model(world / "rm")
    ends = [each[-1] for of_group in LiveScorer(critic).score(groups, Score.STATE_VALUE, 512) for each in of_group]
    scores = [each[-1] for of_group in LiveScorer(reward_model).score(groups, Score.VALUE, 512) for each in of_group]
    assert torch.allclose(torch.stack(ends), torch.stack(scores), atol=1e-5)
    assert float(torch.stack(ends).abs().min()) > 0


def test_with_lora_a_reward_models_adapter_and_head_are_the_critics(world: Path) -> None:
    """Of the same recipe, whose base they share; the value after a response is the reward model's score of it."""
    groups, role = make_groups([(4, [5, 3])], 0), Role(CRITIC, model=str(world / "rm-lora" / "model"), **SHARED)
    context: StageContext[Any] = StageContext.of(stage_recipe("ppo", given(world, adapter=LORA)).recipe)
    loaded = load_models(context, (Role(POLICY), role))
    critic, reward_model = loaded[CRITIC], burnish_model(world / "rm-lora")
    assert critic.model is loaded[POLICY].model
    ends = [each[-1] for of_group in LiveScorer(critic).score(groups, Score.STATE_VALUE, 512) for each in of_group]
    scores = [each[-1] for of_group in LiveScorer(reward_model).score(groups, Score.VALUE, 512) for each in of_group]
    assert torch.allclose(torch.stack(ends), torch.stack(scores), atol=1e-5)


def test_a_full_reward_model_is_no_adapter(world: Path) -> None:
    role = Role(CRITIC, model=str(world / "rm" / "model"), **SHARED)
    context: StageContext[Any] = StageContext.of(stage_recipe("ppo", given(world, adapter=LORA)).recipe)
    with pytest.raises(ModelError, match="has no adapter"):
        load_models(context, (Role(POLICY), role))


def burnish_model(run_folder: Path) -> Model:
    from burnish.model.open import find_model, open_ref, policy_of

    return policy_of(open_ref(find_model(str(run_folder / "model")), allow_reward_model=True))


def test_with_lora_the_critic_is_a_second_adapter_which_begins_as_the_policys(world: Path, tmp_path: Path) -> None:
    sft = burnish.sft(
        model=world / "model",
        data=world / "math.jsonl",
        adapter=LORA,
        max_steps=3,
        learning_rate=1e-2,
        output=tmp_path / "sft",
    )
    loaded = models(world, model=str(sft.folder), adapter=LORA)
    policy, critic = loaded[POLICY], loaded[CRITIC]
    assert critic.model is policy.model
    own = {name.replace("critic", "default"): p for name, p in critic.trained_parameters() if "critic_head" not in name}
    others = dict(policy.trained_parameters())
    assert own.keys() == others.keys()
    assert any(bool(p.any()) for name, p in own.items() if "lora_B" in name)
    assert all(own[name].equal(others[name]) for name in own)
    assert bool((values_of(critic, make_groups([(4, [5])], 0)) == 0).all())
    base = sum(p.numel() for p in policy.model.get_base_model().parameters() if not p.requires_grad)
    trained = sum(p.numel() for _, p in critic.trained_parameters())
    assert trained < base / 4, "the base is there once"


def test_another_language_model_is_a_backbone_of_its_own(world: Path) -> None:
    loaded = models(world, critic={"model": str(world / "other")})
    assert loaded[CRITIC].model is not loaded[POLICY].model
    assert bool((values_of(loaded[CRITIC], make_groups([(4, [5])], 0)) == 0).all())


def test_a_critic_with_other_tokens_is_refused(world: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_untrained(tmp_path / "foreign", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "foreign")
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(tmp_path / "foreign")
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "foreign")
    grown.resize_token_embeddings(len(tokenizer))
    grown.save_pretrained(tmp_path / "foreign")
    with pytest.raises(ModelError, match=r"critic\.model"):
        models(world, model=str(tmp_path / "foreign"), critic={"model": str(world / "model")})
    further = models(world, critic={"model": str(tmp_path / "foreign")})
    assert CRITIC in further, "tokens that the policy does not have are never seen"


def test_the_saved_model_is_the_policy(plain: burnish.RunResult) -> None:
    config = json.loads((plain.folder / "model" / "config.json").read_text())
    assert config["architectures"][0].endswith("ForCausalLM")
