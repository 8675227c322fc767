"""Stages of learning by trying: what may be written, what runs, what is told, and that looking leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.algorithms import ALGORITHMS
from burnish.builtin import builtin_rows, write_rows, write_untrained
from burnish.errors import DataError, RecipeError
from burnish.losses.policy import Capped, Clipped
from burnish.recipe.inputs import Opener
from burnish.recipe.policy import open_policy
from burnish.recipe.practice import Practice
from burnish.recipe.read import stage_recipe
from burnish.recipe.rl import Rl
from burnish.sampling import LocalSampler, Prompt
from burnish.sources.annotate import logprobs
from burnish.tasks import Answer
from burnish.tasks.instructions import InstructionsReward

LENGTH: dict[str, Any] = {"name": "length", "target": 8, "slack": 20, "unit": "characters"}


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
    base = {"model": str(world / "model"), "data": str(world / "math.jsonl"), "reward": LENGTH, "workers": 1}
    sizes = {"groups_per_step": 2, "responses": 3, "max_new_tokens": 5, "log_every": 1, "learning_rate": 1e-2}
    return {**base, **sizes, **({} if "epochs" in settings else {"max_steps": 2}), **settings}


def run(world: Path, output: Path, **settings: Any) -> burnish.Finished:
    return burnish.rl(output=str(output), **given(world, **settings))


def stage(world: Path, **settings: Any) -> Rl:
    found = stage_recipe("rl", given(world, **settings)).recipe.stages[0].settings
    assert isinstance(found, Rl)
    return found


def practice(world: Path, **settings: Any) -> Practice:
    return Practice.of(Opener.of(stage_recipe("rl", given(world, **settings)).recipe))


def weights(done: burnish.Finished) -> dict[str, torch.Tensor]:
    [path] = (done.folder / "model").glob("*.safetensors")
    return load_file(path)


def lines(done: burnish.Finished, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (done.folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"algorithm": "grop"}, "choose from: grpo"),
        ({"reward": "maths"}, "did you mean math"),
        ({"reward": [LENGTH, LENGTH]}, "two rewards are called length"),
        ({"responses": 1}, "compares the responses"),
        ({"top_p": 0.9, "updates": 2}, "ratios of the policy's probabilities"),
        ({"repetition_penalty": 1.1, "updates": 3}, "remove repetition_penalty"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"clip_low": 0.1}, "no effect with updates: 1"),
        ({"clip_cap": 2.0, "updates": 2}, "grpo has no clip_cap"),
        ({"clip_low": 0.1, "updates": 2, "algorithm": "sapo"}, "sapo has no clip_low"),
        ({"kl": "k1"}, "no effect with beta: 0"),
        ({"overlong": "cut"}, "change what is asked"),
        ({"train_on": "everything"}, "the policy writes them"),
        ({"control_text": "tokens"}, "stays text"),
        ({"max_length": 5}, "leaves no prompt"),
        ({"adapter.kind": "lora", "adapter.dropout": 0.1}, "written without it"),
        ({"num_generations": 4}, "here it is responses"),
        ({"reward_funcs": "x"}, "here it is reward"),
        ({"sequences_per_step": 4}, "did you mean"),
        ({"keep_best": True}, "unknown key"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(world, wrong, said):
    with pytest.raises(RecipeError) as error:
        stage(world, **wrong)
    assert said in str(error.value)


def test_what_is_read_again_is_the_same(world, tmp_path):
    done = run(world, tmp_path / "a", beta=0.1, kl="k1", updates=2, clip_low=0.1)
    text = (done.folder / "recipe.yaml").read_text()
    (tmp_path / "again.yaml").write_text(text.replace(str(tmp_path / "a"), str(tmp_path / "b")))
    again = burnish.run(tmp_path / "again.yaml", f"output={tmp_path / 'b'}")
    one, other = weights(done), weights(again)
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_its_settings(world, name):
    chosen = stage(world, algorithm=name, updates=2).chosen
    assert chosen.credit == ALGORITHMS[name].credit
    assert chosen.loss.clip == ALGORITHMS[name].loss.clip
    assert chosen.loss.old == "sampler"
    assert stage(world, algorithm=name).chosen.loss.old == "own"


def test_settings_reach_credit_and_loss(world):
    assert stage(world, updates=2, clip_low=0.1, clip_dual=3.0).chosen.loss.clip == Clipped(0.1, 0.2, dual=3.0)
    assert stage(world, updates=2, algorithm="cispo", clip_cap=2.0).chosen.loss.clip == Capped(2.0)
    assert stage(world, beta=0.1, kl="k2").chosen.loss.kl == "k2"
    assert stage(world, beta=0.1, kl="k1").chosen.credit.token_beta == 0.1
    assert stage(world, beta=0.1, kl="k1_response").chosen.credit.sequence_beta == 0.1
    assert stage(world, beta=0.1, kl="k1").chosen.loss.beta == 0
    assert stage(world, entropy=0.01).chosen.loss.entropy == 0.01
    assert stage(world, algorithm="dr_grpo").chosen.loss.fixed_length == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "dr_grpo", "beta": 0.1, "kl": "k1_response"},
        {"algorithm": "gspo", "updates": 2, "beta": 0.1, "temperature": 0.7},
        {"algorithm": "reinforce_pp", "responses": 1, "entropy": 0.01, "top_p": 0.9},
        {"algorithm": "gmpo", "updates": 2, "adapter.kind": "lora", "curriculum": True},
    ],
    ids=lambda settings: settings["algorithm"],
)
def test_it_learns_and_tells(world, tmp_path, settings):
    done = run(world, tmp_path, **settings)
    told = [line for line in lines(done) if "train/loss" in line]
    assert [line["step"] for line in told] == [1, 2]
    wrote = [line for line in told if "rollout/reward" in line]
    assert [line["step"] for line in wrote] == ([1] if settings.get("updates") == 2 else [1, 2])
    assert wrote[0]["rollout/reward"] == wrote[0]["rollout/reward/length"] > 0
    samples = lines(done, "samples.jsonl")
    assert {sample["rollout"] for sample in samples} >= {"best", "worst"}
    assert max(sample["reward"] for sample in samples) == samples[0]["reward"]
    assert "Tried in training" in (done.folder / "report.html").read_text()


def test_at_the_first_step_policy_and_reference_agree(world, tmp_path):
    """At any temperature: sampler, trainer and reference mean the same log-probability."""
    done = run(world, tmp_path, beta=0.5, temperature=0.6, max_steps=1)
    [line] = [line for line in lines(done) if "train/loss" in line]
    assert abs(line["train/reference_kl"]) < 1e-5
    assert line["train/kl"] < 1e-8


def test_the_trainer_computes_what_the_sampler_reported(world):
    ready = practice(world, temperature=0.6, model=str(world / "model"))
    policy = open_policy(ready.opener)
    prompts = [Prompt(asked.tokens, key) for key, asked in enumerate(ready.asked()[:3])]
    groups = LocalSampler(policy, [], 64).sample(prompts, 2, ready.settings.params(0))
    for group, mine in zip(groups, logprobs(policy, groups, 512), strict=True):
        for response, values in zip(group.responses, mine, strict=True):
            torch.testing.assert_close(values, response.sampler_logprobs, atol=1e-5, rtol=0)


def test_looking_leaves_no_trace(world, tmp_path):
    held_out = {"eval_data": str(world / "test.jsonl"), "eval_every": 1, "eval_prompts": 5}
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
    done = run(world, tmp_path, reward={**LENGTH, "journal": True})
    assert len(lines(done, "verdicts.jsonl")) > 0


def test_a_reward_that_fails_stops_the_run_with_the_reason(world, tmp_path):
    code = tmp_path / "own.py"
    code.write_text("def broken(answer):\n    raise ValueError('no idea')\n")
    with pytest.raises(burnish.errors.RunError, match="broken: crash"):
        run(world, tmp_path / "run", reward=f"{code}:broken")


def test_an_answer_in_a_row_is_its_reference(world):
    first = (
        practice(world, model="builtin:tiny", data=str(world / "chat.jsonl"), template="chatml").train.waiting[0].task
    )
    row = builtin_rows("chat", count=1)[0]
    assert first.reference == row["messages"][-1]["content"]
    assert first.prompt[-1].content == row["messages"][-2]["content"]
    assert practice(world).train.waiting[0].task.reference == builtin_rows("math", count=1)[0]["answer"]
    write_rows(world / "both.jsonl", [{**row, "prompt": "1 + 1 =", "reference": "2"}])
    assert practice(world, data=str(world / "both.jsonl")).train.waiting[0].task.prompt == "1 + 1 ="
    with pytest.raises(DataError, match="not for rl"):
        practice(world, data=str(world / "pairs.jsonl"))


def test_prompts_end_where_the_answer_begins(world):
    ready = practice(world, model="builtin:tiny", template="chatml")
    text = ready.opener.reader.tokenizer.decode(list(ready.train.waiting[0].tokens))
    question = builtin_rows("math", count=1)[0]["question"]
    assert text == f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_prompts_that_leave_no_room(world):
    lengths = [len(each.tokens) for each in practice(world).train.waiting]
    limit = sorted(lengths)[len(lengths) // 2] + 5
    with pytest.raises(DataError, match="prompts are too long"):
        practice(world, max_length=limit)
    kept = practice(world, max_length=limit, overlong="drop").train
    assert [len(each.tokens) for each in kept.waiting] == [length for length in lengths if length <= limit - 5]
    assert kept.dropped == len(lengths) - len(kept.waiting)


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
            assert reward.score(Answer(tuple(row["prompt"]), said, extra=extra)) == followed
        seen.add(kind)
    assert seen == set(following)
