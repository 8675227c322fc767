"""Stages of learning by trying: what may be written, what runs, what is told, and that looking leaves no trace."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.config.settings import keys
from burnish.errors import DataError, Interrupted, RecipeError
from burnish.losses.policy.settings import Cispo, Clip, ImportanceCorrection, NoClip, PpoClip, Sapo
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.packing import count_denominators, pack
from burnish.recipe.read import stage_recipe
from burnish.rewards.instructions.reward import InstructionsReward
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward_model_scorer import RewardModelScorer
from burnish.roles.scorer import LiveScorer
from burnish.rollouts.prompt_order import PromptOrder
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.settings.aliases import OTHER_TOOLS
from burnish.stages.context import StageContext
from burnish.stages.models import load_trained
from burnish.stages.on_policy.build import longest_prompts
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.rl.algorithms import ALGORITHMS
from burnish.stages.rl.build import Rl, learning_of
from burnish.stages.rl.settings import RlSettings
from burnish.train.early_stopping import StopRule
from burnish.types import Score, TokenScores
from tests.conftest import make_groups
from tests.interrupting import interrupted_at

LENGTH: dict[str, Any] = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "math.jsonl", builtin_rows("math", count=40))
    write_rows(folder / "test.jsonl", builtin_rows("math", "test", count=8))
    write_rows(folder / "chat.jsonl", builtin_rows("chat", count=10))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=10))
    return folder


def given(world: Path, **settings: Any) -> dict[str, Any]:
    base = {"model": str(world / "model"), "data": str(world / "math.jsonl"), "reward": LENGTH, "reward_workers": 1}
    sizes = {
        "groups_per_step": 2,
        "responses_per_prompt": 3,
        "max_new_tokens": 5,
        "log_every": 1,
        "learning_rate": 1e-2,
    }
    return {**base, **sizes, **({} if "epochs" in settings else {"max_steps": 2}), **settings}


def run(world: Path, output: Path, **settings: Any) -> burnish.RunResult:
    return burnish.rl(output=str(output), **given(world, **settings))


def stage(world: Path, **settings: Any) -> RlSettings:
    found = stage_recipe("rl", given(world, **settings)).recipe.stages[0].settings
    assert isinstance(found, RlSettings)
    return found


def parts(**settings: Any) -> dict[str, Any]:
    """Keys of the group policy_gradient."""
    return {f"policy_gradient.{name}": value for name, value in settings.items()}


def practice(world: Path, **settings: Any) -> OnPolicyData:
    return OnPolicyData.of(StageContext.of(stage_recipe("rl", given(world, **settings)).recipe))


def weights(done: burnish.RunResult) -> dict[str, torch.Tensor]:
    [path] = (done.folder / "model").glob("*.safetensors")
    return load_file(path)


def lines(done: burnish.RunResult, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (done.folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"algorithm": "grop"}, "choose from: grpo"),
        ({"reward": "maths"}, "did you mean math"),
        ({"reward": [LENGTH, LENGTH]}, "two rewards are called length"),
        ({"responses_per_prompt": 1}, "compares the responses"),
        ({"sampling.top_p": 0.9, "updates_per_batch": 2}, "ratios of the policy's probabilities"),
        ({"sampling.repetition_penalty": 1.1, "updates_per_batch": 3}, "remove sampling.repetition_penalty"),
        ({"sampling.temperature": 0.0}, "sampling.temperature must be greater than 0"),
        (parts(clip_low=0.1), "policy_gradient.clip_low has no effect with updates_per_batch: 1"),
        ({**parts(clip_max_weight=2.0), "updates_per_batch": 2}, "grpo has no policy_gradient.clip_max_weight"),
        ({**parts(clip_low=0.1), "updates_per_batch": 2, "algorithm": "sapo"}, "sapo has no policy_gradient.clip_low"),
        (parts(kl_in="advantage"), "policy_gradient.kl_in has no effect with kl_coef: 0"),
        (parts(kl_estimator="k2"), "policy_gradient.kl_estimator has no effect with kl_coef: 0"),
        ({"kl_coef": 0.1, **parts(kl_estimator="k1")}, "an expected gradient of 0 in a loss"),
        ({"kl_coef": 0.1, **parts(kl_in="reward", kl_estimator="k3")}, "another divergence in the reward"),
        ({"overlong": "truncate"}, "would change the prompt"),
        ({"train_on": "everything"}, "the policy generates them"),
        ({"special_tokens_in_text": "tokens"}, "tokenized as text"),
        ({"max_length": 5}, "leaves no room for a prompt"),
        ({"adapter.kind": "lora", "adapter.dropout": 0.1}, "sampled without it"),
        ({"num_generations": 4}, "here it is responses_per_prompt"),
        ({"reward_funcs": "x"}, "here it is reward"),
        ({"sequences_per_step": 4}, "did you mean"),
        ({"checkpoints.keep_best": True}, "keep_best needs eval_data"),
        ({"early_stopping.patience": 2}, "early_stopping needs eval_every"),
        ({"checkpoints.best_metric": "accuracy"}, "needs checkpoints.keep_best or early_stopping"),
        ({"stop_on_alerts": ["collapsed"]}, "stop_on_alerts"),
        ({"stop_on_alerts": ["kl_drift"]}, "none is computed"),
        (parts(reward_combination="normalized_sum"), "length is the only one"),
        (parts(ratio_level="sequence"), "no effect with updates_per_batch: 1"),
        ({**parts(clip_mode="cispo", old_logprobs="policy"), "updates_per_batch": 2}, "old_logprobs: policy"),
        (parts(old_logprobs="recomputed"), "old_logprobs: recomputed equals old_logprobs: policy"),
        ({**parts(ratio_level="sequence"), "updates_per_batch": 2}, "set policy_gradient.clip_mode too"),
        ({**parts(clip_mode="cispo", clip_low=0.1), "updates_per_batch": 2}, "has no policy_gradient.clip_low"),
        ({**parts(token_log_ratio_limit=0.4), "updates_per_batch": 2}, "needs ratio_level: sequence"),
        (
            {**parts(importance_correction="mis"), "updates_per_batch": 2},
            "are the same; set policy_gradient.old_logprobs: recomputed",
        ),
        (parts(importance_correction="tis", importance_correction_min=0.5), "tis has only an upper bound"),
        (parts(importance_correction_max=3.0), "needs policy_gradient.importance_correction"),
        ({**parts(importance_correction="tis"), "sampling.top_k": 5}, "uses the probabilities before it"),
        ({**parts(importance_correction="tis"), "dtype": "float32"}, "rounding alone"),
        (
            {
                **parts(importance_correction="tis", old_logprobs="recomputed"),
                "dtype": "float32",
                "updates_per_batch": 2,
            },
            "rounding alone",
        ),
        (parts(fixed_length=9), "without policy_gradient.loss_aggregation: fixed"),
        ({"replay": {"fraction": 0.5}, "sampling.top_p": 0.9}, "replay learns by ratios"),
        ({"replay": {"fraction": 0.1}}, "replay.fraction: 0.1 of 2 groups is less than one"),
        ({"replay": {"fraction": 1.0}}, "less than 1"),
        ({**parts(old_logprobs="sampler"), "sampling.min_p": 0.1}, "old_logprobs: sampler learns by ratios"),
        (parts(entropy_coef_lr=0.1), "needs policy_gradient.entropy_target"),
        (parts(entropy_target=1.0, entropy_coef=0.5), "above entropy_coef_max"),
        ({"preference": {"loss": "ipo"}}, "preference needs algorithm: online_dpo"),
        ({"algorithm": "online_dpo", "kl_coef": 0.1}, "the beta of its loss is preference.beta"),
        ({"algorithm": "online_dpo", **parts(mask_truncated=True)}, "policy_gradient.mask_truncated has no effect"),
        ({"algorithm": "online_dpo", **parts(advantage_scale="none")}, "without advantages"),
        ({"algorithm": "online_dpo", "updates_per_batch": 2, **parts(clip_low=0.1)}, "clip_low has no effect"),
        ({"algorithm": "online_dpo", "preference": {"loss": "kto"}}, "apo_zero_unpaired learns from verdicts"),
        ({"algorithm": "online_dpo", "preference": {"loss": "tpo"}}, "gold response"),
        ({"algorithm": "online_dpo", "preference": {"loss": "dop"}}, "did you mean dpo"),
        ({"algorithm": "online_dpo", "preference": {"loss_options": {"margin": 1.0}}}, "does not use it"),
        ({"algorithm": "online_dpo", "preference": {"loss": "lipo", "pairs": "all"}}, "pairs has no effect"),
        ({"algorithm": "online_dpo", "responses_per_prompt": 1}, "compares the responses"),
        ({"epsilon_high": 0.3}, "here it is policy_gradient.clip_high"),
        ({"mask_truncated_completions": True}, "here it is policy_gradient.mask_truncated"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(world, wrong, said):
    with pytest.raises(RecipeError) as error:
        stage(world, **wrong)
    assert said in str(error.value)


def test_names_of_other_tools_lead_to_keys_that_are_there():
    groups = ("policy_gradient", "sampling", "replay")
    told = " ".join(OTHER_TOOLS.values())
    named = re.findall(rf"\b(?:{'|'.join(groups)})\.[a-z_]+", told)
    assert len(named) > 30
    assert set(named) <= set(keys(RlSettings))


def test_what_is_read_again_is_the_same(world, tmp_path):
    done = run(world, tmp_path / "a", kl_coef=0.1, updates_per_batch=2, **parts(kl_in="advantage", clip_low=0.1))
    text = (done.folder / "recipe.yaml").read_text()
    (tmp_path / "again.yaml").write_text(text.replace(str(tmp_path / "a"), str(tmp_path / "b")))
    again = burnish.run(tmp_path / "again.yaml", f"output={tmp_path / 'b'}")
    one, other = weights(done), weights(again)
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_its_settings(world, name):
    chosen = stage(world, algorithm=name, updates_per_batch=2).chosen
    assert chosen.credit == ALGORITHMS[name].credit
    assert chosen.loss.clip == ALGORITHMS[name].loss.clip
    assert chosen.loss.old_logprobs == "sampler"
    assert stage(world, algorithm=name).chosen.loss.old_logprobs == "policy"


def test_settings_reach_credit_and_loss(world):
    clipped = stage(world, updates_per_batch=2, **parts(clip_low=0.1, dual_clip=3.0))
    assert clipped.chosen.loss.clip == PpoClip(0.1, 0.2, dual_clip=3.0)
    capped = stage(world, updates_per_batch=2, algorithm="cispo", **parts(clip_max_weight=2.0))
    assert capped.chosen.loss.clip == Cispo(2.0)
    assert stage(world, **parts(entropy_coef=0.01)).chosen.loss.entropy_coef == 0.01
    assert stage(world, algorithm="dr_grpo").chosen.loss.fixed_length == 5


@pytest.mark.parametrize("place", ["loss", "advantage", "reward"])
def test_the_divergence_enters_where_it_is_said(world, place):
    chosen = stage(world, kl_coef=0.1, **parts(kl_in=place)).chosen
    credit, loss = chosen.credit, chosen.loss
    weights = {"loss": loss.kl_coef, "advantage": credit.advantage_kl_coef, "reward": credit.reward_kl_coef}
    assert weights == {name: 0.1 if name == place else 0.0 for name in weights}
    assert loss.kl_estimator == "k3"
    named = "k2" if place == "loss" else "k1"
    again = stage(world, kl_coef=0.1, **parts(kl_in=place, kl_estimator=named)).chosen
    assert again == (replace(chosen, loss=replace(loss, kl_estimator="k2")) if place == "loss" else chosen)


def test_parts_take_the_place_of_the_algorithms_own(world):
    plain = stage(world, updates_per_batch=2).chosen
    composed = stage(
        world,
        updates_per_batch=2,
        **parts(
            baseline="leave_one_out",
            advantage_scale="batch",
            ratio_level="sequence",
            clip_mode="sapo",
            tau_positive=2.0,
            loss_aggregation="fixed",
        ),
    ).chosen
    assert composed.credit == replace(plain.credit, baseline="leave_one_out", advantage_scale="batch")
    clip = Sapo(tau_positive=2.0)
    assert composed.loss == replace(
        plain.loss, ratio_level="sequence", clip=clip, loss_aggregation="fixed", fixed_length=5
    )
    assert stage(world, **parts(loss_aggregation="fixed", fixed_length=1)).chosen.loss.fixed_length == 1
    assert stage(world, algorithm="rloo").chosen.loss.fixed_length == 1
    assert stage(world, algorithm="dr_grpo", **parts(loss_aggregation="token")).chosen.loss.fixed_length is None


def test_a_clip_keeps_the_algorithms_bounds_where_it_is_its_own(world):
    def clip(algorithm: str, **settings: Any) -> Clip:
        return stage(world, algorithm=algorithm, updates_per_batch=2, **parts(**settings)).chosen.loss.clip

    assert clip("dapo", clip_mode="ppo") == PpoClip(0.2, 0.28)
    assert clip("gspo", ratio_level="token", clip_mode="ppo") == PpoClip()
    assert clip("gspo", token_log_ratio_limit=0.4) == PpoClip(3e-4, 4e-4, token_log_ratio_limit=0.4)
    assert clip("grpo", clip_mode="none") == NoClip()


def test_corrections_have_defaults_by_the_level_of_the_ratio(world):
    settings = {"updates_per_batch": 2, **parts(old_logprobs="recomputed", importance_correction="tis")}
    assert stage(world, **settings).chosen.loss.importance_correction == ImportanceCorrection("token", "tis", 2.0)
    of_sequences = stage(world, algorithm="gspo", **settings).chosen.loss
    assert of_sequences.importance_correction == ImportanceCorrection("mean", "tis", 2.0)
    assert of_sequences.old_logprobs == "recomputed"
    level = parts(importance_correction="mis", importance_correction_level="sequence")
    bounds = parts(importance_correction_min=0.5, importance_correction_max=3.0)
    masked = stage(world, **level, **bounds)
    assert masked.chosen.loss.importance_correction == ImportanceCorrection("sequence", "mis", 3.0, 0.5)
    assert stage(world, replay={"fraction": 0.5}).chosen.loss.old_logprobs == "sampler"
    by_policy = parts(old_logprobs="policy", importance_correction="tis")
    older = stage(world, dtype="float32", updates_per_batch=2, **by_policy).chosen.loss
    assert older.old_logprobs == "policy", "weights of the first update wrote what the second learns from"


def test_a_stage_ends_by_what_it_names(world):
    held_out = {"eval_data": str(world / "test.jsonl"), "eval_every": 1}
    by_accuracy = {
        "checkpoints.best_metric": "accuracy",
        "checkpoints.keep_best": True,
        "stop_on_alerts": ["reward_hacking"],
    }
    rule = StopRule(keep_best=True, best_metric="accuracy", rises=True, alerts=frozenset({"reward_hacking"}))
    assert stage(world, **held_out, **by_accuracy).stop_rule == rule


@pytest.mark.parametrize("loss", [name for name in PREFERENCE_LOSSES if name not in ("kto", "tpo", "tpo_l")])
def test_every_preference_loss_learns_from_what_was_tried(world, loss):
    """With what it needs, and groups as it wants them: the loss of a step is finite, and so is its gradient."""
    learning = learning_of(stage(world, algorithm="online_dpo", preference={"loss": loss}, responses_per_prompt=4))
    [group] = make_groups([(3, [2, 4, 3, 2])])
    nothing = [replace(r, weights=None, reference_logprobs=torch.zeros(len(r.tokens))) for r in group.responses]
    lessons = learning.rule.assign([replace(group, responses=tuple(nothing))], [torch.tensor([0.0, 1.0, 0.5, 0.5])])
    groups = [each for lesson in lessons for each in lesson]
    [microbatch] = pack(groups, 1000)
    size = len(microbatch.predictor_positions)
    leaves = {kind: torch.full((size,), -1.0, dtype=torch.float64).requires_grad_() for kind in learning.loss.needs}
    output = learning.loss(TokenScores(**{kind.value: leaf for kind, leaf in leaves.items()}), microbatch)
    counts = count_denominators(groups)
    total = sum(term.total / counts[term.denominator] for term in output.terms.values())
    [gradient, *_] = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) > 0


TRIED: dict[str, dict[str, Any]] = {
    "replay": {"replay": {"groups": 4, "fraction": 0.5}, "algorithm": "dapo"},
    "replay, updates": {
        "replay": {"groups": 4, "fraction": 0.5},
        "updates_per_batch": 2,
        **parts(old_logprobs="recomputed"),
    },
    "entropy": parts(entropy_target=3.0, entropy_coef_lr=0.01, entropy_coef=0.02),
    "comparisons": {"algorithm": "online_dpo", "preference": {"loss": "ipo", "pairs": "all"}},
    "best": {
        "checkpoints.keep_best": True,
        "early_stopping.patience": 9,
        "stop_on_alerts": ["reward_hacking", "entropy_collapse"],
    },
}


@pytest.mark.parametrize("kind", TRIED)
def test_an_interrupted_run_goes_on_bit_for_bit(world, tmp_path, kind):
    held_out = {"eval_data": str(world / "test.jsonl"), "eval_every": 2, "evaluation.prompts": 3}
    settings = {**held_out, "max_steps": 5, **TRIED[kind]}
    whole = run(world, tmp_path / "whole", **settings)
    with interrupted_at(3), pytest.raises(Interrupted, match="after step 3"):
        run(world, tmp_path / "cut", **settings)
    resumed = run(world, tmp_path / "cut", **settings)
    one, other = weights(whole), weights(resumed)
    assert all(one[name].equal(other[name]) for name in one)
    counted = ("epoch", "samples_seen", "tokens_seen")
    figures = ("train/loss", "train/entropy_weight", "rollout/replayed", "rollout/replayed_age", "eval/reward")
    for figure in (*counted, *figures):
        told = [[(line["step"], line[figure]) for line in lines(run) if figure in line] for run in (whole, resumed)]
        assert told[0] == told[1]


def test_an_alert_ends_the_stage_whenever_lines_are_written(world, tmp_path):
    """Every reward is 0, which is told of after ten batches; the model is written all the same."""
    nothing = {**LENGTH, "target": 500, "tolerance": 1}
    done = [
        run(world, tmp_path / str(every), reward=nothing, max_steps=20, stop_on_alerts=["zero_reward"], log_every=every)
        for every in (1, 7)
    ]
    for each in done:
        assert each.summary["steps"] == 10
        assert "every reward of 10 batches is 0" in str(each.summary["stopped_early"])
    one, other = map(weights, done)
    assert all(one[name].equal(other[name]) for name in one)


def test_the_best_of_the_held_out_rewards_is_kept(world, tmp_path):
    held_out = {"eval_data": str(world / "test.jsonl"), "eval_every": 1, "max_steps": 4}
    done = run(world, tmp_path, **held_out, checkpoints={"keep_best": True})
    rewards = {line["step"]: line["eval/reward"] for line in lines(done) if "eval/reward" in line}
    assert done.summary["best_step"] == max(rewards, key=lambda step: (rewards[step], -step))


def test_the_costliest_is_tried_first_and_leaves_no_trace(world, tmp_path):
    alone, rehearsed = run(world, tmp_path / "a"), run(world, tmp_path / "b", dry_run=True)
    one, other = weights(alone), weights(rehearsed)
    assert all(one[name].equal(other[name]) for name in one)
    settings = practice(world, responses_per_prompt=4, max_new_tokens=9)
    groups = longest_prompts(settings, learning_of(settings.settings).rule)
    longest = max(len(each.tokens) for each in settings.train.tokenized)
    assert groups[0].num_tokens == longest + 4 * 9


def test_sources_of_a_mixture_have_rewards_of_their_own(world, tmp_path):
    sources = [{"path": str(world / "math.jsonl"), "name": "sums"}, {"path": str(world / "test.jsonl"), "name": "more"}]
    rewards = [
        {**LENGTH, "where": {"source": "sums"}},
        {"name": "length", "metric": "other", "target": 3, "tolerance": 9, "where": {"source": "more"}},
    ]
    ready = practice(world, data=sources, reward=rewards)
    assert [each.task.extra["source"] for each in ready.train.tokenized] == ["sums"] * 40 + ["more"] * 8
    named = practice(world, data={"path": str(world / "test.jsonl"), "name": "more"})
    assert {each.task.extra["source"] for each in named.train.tokenized} == {"more"}
    assert "source" not in practice(world).train.tokenized[0].task.extra
    with ready.judge as judge:
        both = [ResponseView("?", "12345678", extra={"source": name}, token_ids=(1, 2, 3)) for name in ("sums", "more")]
        verdicts = [verdict for [verdict] in judge([[each] for each in both])]
    assert [verdict.parts for verdict in verdicts] == [{"length": 1.0, "other": None}, {"length": None, "other": 1.0}]
    assert [verdict.reward for verdict in verdicts] == [1.0, 1.0]


@pytest.mark.parametrize(
    "settings",
    [
        {
            "algorithm": "dr_grpo",
            "kl_coef": 0.1,
            "policy_gradient": {"kl_in": "reward", "kl_estimator": "k1"},
            "dynamic_sampling": True,
        },
        {"algorithm": "gspo", "updates_per_batch": 2, "kl_coef": 0.1, "sampling.temperature": 0.7},
        {
            "algorithm": "reinforce_pp",
            "responses_per_prompt": 1,
            "policy_gradient": {"entropy_coef": 0.01},
            "sampling": {"top_p": 0.9},
        },
        {"algorithm": "gmpo", "updates_per_batch": 2, "adapter.kind": "lora", "curriculum": True},
    ],
    ids=lambda settings: settings["algorithm"],
)
def test_it_learns_and_tells(world, tmp_path, settings):
    done = run(world, tmp_path, **settings)
    told = [line for line in lines(done) if "train/loss" in line]
    assert [line["step"] for line in told] == [1, 2]
    wrote = [line for line in told if "rollout/reward" in line]
    assert [line["step"] for line in wrote] == ([1] if settings.get("updates_per_batch") == 2 else [1, 2])
    assert wrote[0]["rollout/reward"] == wrote[0]["rollout/reward/length"] > 0
    samples = lines(done, "samples.jsonl")
    assert {sample["rollout"] for sample in samples} >= {"best", "worst"}
    assert max(sample["reward"] for sample in samples) == samples[0]["reward"]
    assert "Rollouts, newest first" in (done.folder / "report.html").read_text()


def test_at_the_first_step_policy_and_reference_agree(world, tmp_path):
    """At any temperature: sampler, trainer and reference mean the same log-probability."""
    done = run(world, tmp_path, kl_coef=0.5, max_steps=1, **{"sampling.temperature": 0.6})
    [line] = [line for line in lines(done) if "train/loss" in line]
    assert abs(line["train/reference_kl"]) < 1e-5
    assert line["train/kl"] < 1e-8


def test_the_trainer_computes_what_the_sampler_reported(world):
    ready = practice(world, sampling={"temperature": 0.6}, model=str(world / "model"))
    policy = load_trained(ready.context, Rl().roles(ready.context.recipe, ready.settings)[0])
    prompts = [SampleRequest(asked.tokens, key) for key, asked in enumerate(ready.train.tokenized[:3])]
    groups = LocalSampler(policy, [], 64).sample(prompts, 2, ready.settings.params(0))
    for group, mine in zip(groups, LiveScorer(policy).score(groups, Score.LOGPROB, 512), strict=True):
        for response, values in zip(group.responses, mine, strict=True):
            torch.testing.assert_close(values, response.sampler_logprobs, atol=1e-5, rtol=0)


def test_looking_leaves_no_trace(world, tmp_path):
    held_out = {"eval_data": str(world / "test.jsonl"), "eval_every": 1, "evaluation.prompts": 5}
    watched, alone = run(world, tmp_path / "a", **held_out), run(world, tmp_path / "b")
    one, other = weights(watched), weights(alone)
    assert all(one[name].equal(other[name]) for name in one)
    evaluated = [line for line in lines(watched) if "eval/reward" in line]
    assert [line["step"] for line in evaluated] == [0, 1, 2]
    answers = [sample for sample in lines(watched, "samples.jsonl") if "index" in sample]
    assert len(answers) == 15
    first = evaluated[0]
    right = [sample["correct"] for sample in answers if sample["step"] == 0]
    assert first["eval/accuracy"] == sum(right) / len(right)


def test_verdicts_of_dear_rewards_are_kept(world, tmp_path):
    done = run(world, tmp_path, reward={**LENGTH, "cache": True})
    assert len(lines(done, "verdicts.jsonl")) > 0


def test_a_reward_model_judges_a_whole_run(world, tmp_path):
    """In its own template, as it does alone; and what it says is what the policy learns from."""
    pairs = {"data": str(world / "pairs.jsonl"), "max_steps": 2, "sequences_per_step": 4, "add_tokens": ["<|pad|>"]}
    judge = burnish.reward(model=str(world / "model"), output=str(tmp_path / "judge"), **pairs).folder
    held_out = {"eval_data": str(world / "test.jsonl"), "eval_every": 1, "evaluation.prompts": 2}
    done = run(world, tmp_path / "run", reward={"name": "reward_model", "model": str(judge)}, **held_out)
    tried = [sample for sample in lines(done, "samples.jsonl") if "rollout" in sample]
    alone = RewardModelScorer.open(str(judge / "model"), None, {}, budget=8192)
    for sample in tried:
        asked = ({"role": "user", "content": sample["prompt"]},)
        [[said]] = alone([[ResponseView(asked, sample["response"])]])
        assert sample["reward"] == sample["parts"]["reward_model"] == pytest.approx(said, abs=1e-5)
    assert len({sample["reward"] for sample in tried}) > 1
    assert all(weight.isfinite().all() for weight in weights(done).values())
    assert [line["eval/ungraded_share"] for line in lines(done) if "eval/reward" in line] == [0.0, 0.0, 0.0]


def test_a_reward_model_that_is_only_measured_leaves_no_trace(world, tmp_path):
    """Loading and scoring change neither the responses nor the updates, bit for bit."""
    pairs = {"data": str(world / "pairs.jsonl"), "max_steps": 1, "sequences_per_step": 4, "add_tokens": ["<|pad|>"]}
    adapter = {"adapter.kind": "lora", "adapter.rank": 2}  # whose loading draws random numbers
    judge = burnish.reward(model=str(world / "model"), output=str(tmp_path / "judge"), **pairs, **adapter).folder
    measured = {"name": "reward_model", "model": str(judge), "weight": 0.0}
    one = weights(run(world, tmp_path / "a", reward=[LENGTH, measured]))
    other = weights(run(world, tmp_path / "b", reward=[LENGTH]))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_reward_that_fails_stops_the_run_with_the_reason(world, tmp_path):
    code = tmp_path / "own.py"
    code.write_text("def broken(answer):\n    raise ValueError('no idea')\n")
    with pytest.raises(burnish.errors.RunError, match="broken: crash"):
        run(world, tmp_path / "run", reward=f"{code}:broken")


def test_an_answer_in_a_row_is_its_reference(world):
    first = (
        practice(world, model="builtin:tiny", data=str(world / "chat.jsonl"), chat_template="chatml")
        .train.tokenized[0]
        .task
    )
    row = builtin_rows("chat", count=1)[0]
    assert first.reference == row["messages"][-1]["content"]
    assert first.prompt[-1].content == row["messages"][-2]["content"]
    assert practice(world).train.tokenized[0].task.reference == builtin_rows("math", count=1)[0]["answer"]
    write_rows(world / "both.jsonl", [{**row, "prompt": "1 + 1 =", "reference": "2"}])
    assert practice(world, data=str(world / "both.jsonl")).train.tokenized[0].task.prompt == "1 + 1 ="
    with pytest.raises(DataError, match="not for rl"):
        practice(world, data=str(world / "pairs.jsonl"))


def test_prompts_end_where_the_answer_begins(world):
    ready = practice(world, model="builtin:tiny", chat_template="chatml")
    text = ready.context.reader.tokenizer.decode(ready.train.tokenized[0].tokens.tolist())
    question = builtin_rows("math", count=1)[0]["question"]
    assert text == f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_prompts_that_leave_no_room(world):
    lengths = [len(each.tokens) for each in practice(world).train.tokenized]
    limit = sorted(lengths)[len(lengths) // 2] + 5
    with pytest.raises(DataError, match="prompts are too long"):
        practice(world, max_length=limit)
    kept = practice(world, max_length=limit, overlong="drop").train
    assert [len(each.tokens) for each in kept.tokenized] == [length for length in lengths if length <= limit - 5]
    assert kept.dropped == len(lengths) - len(kept.tokenized)


def test_an_epoch_is_one_pass_over_the_usable_prompts(world, tmp_path, monkeypatch):
    """Prompts that are too long have no part in it, and no other prompt is asked twice for them."""
    lengths = [len(each.tokens) for each in practice(world).train.tokenized]
    limit = sorted(lengths)[len(lengths) // 2] + 5
    usable = [row for row, length in enumerate(lengths) if length <= limit - 5]
    asked: list[int] = []
    take = PromptOrder.take
    monkeypatch.setattr(PromptOrder, "take", lambda self, count: asked.extend(rows := take(self, count)) or rows)
    settings = {"epochs": 1, "max_length": limit, "overlong": "drop", "groups_per_step": 4, "max_resamples": 1}
    done = run(world, tmp_path / "run", **settings)
    steps = -(-len(usable) // 4)
    assert done.summary["steps"] == steps
    assert sorted(asked[: len(usable)]) == list(range(len(usable)))
    trained = [line for line in lines(done) if "train/loss" in line]
    assert [line["epoch"] for line in trained] == [4 * step / len(usable) for step in range(1, steps + 1)]
    clause = f"{len(usable)} of 40 rows are usable ({40 - len(usable)} too long are left out)"
    assert f"{clause}; an epoch is {len(usable)} prompts, {steps} steps" in (done.folder / "log.txt").read_text()


@pytest.mark.parametrize("split", ["train", "test"])
def test_instructions_of_the_built_in_world_can_be_followed(split):
    plain, seen = "Edda keeps a pig.", set()
    following = {
        "keywords:existence": f"Gladly, with pleasure. {plain}",
        "keywords:forbidden_words": plain,
        "length_constraints:number_words": f"With pleasure. {plain}",
        "startend:quotation": f'"{plain}"',
    }
    breaking = {**dict.fromkeys(following, plain), "keywords:forbidden_words": f"Gladly. {plain}"}
    reward = InstructionsReward()
    for row in builtin_rows("instructions", split, count=100):
        [kind] = row["instruction_id_list"]
        extra = {"instruction_id_list": [kind], "kwargs": row["kwargs"]}
        for said, followed in ((following[kind], True), (breaking[kind], False)):
            assert reward.score(ResponseView(tuple(row["prompt"]), said, extra=extra)) == followed
        seen.add(kind)
    assert seen == set(following)
