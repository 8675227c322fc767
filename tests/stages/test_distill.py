"""The stage distill: what may be written, every kind of teacher in whole runs, and that each loss closes the gap."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import burnish
from burnish.builtin.sets import builtin_rows, generate, write_rows
from burnish.builtin.tiny import TEMPLATE, write_untrained
from burnish.errors import DataError, ModelError, RecipeError, RunError
from burnish.evaluate.teacher_kl import TeacherKL
from burnish.local_path import cache_folder
from burnish.model.snapshot import Snapshot
from burnish.recipe.read import stage_recipe
from burnish.stages.context import StageContext
from burnish.stages.distill.settings import DistillSettings
from burnish.stages.kind import build_job, kind_of
from burnish.stages.role import POLICY
from burnish.train.loop import Stage
from tests.roles.logprob_endpoint import LogprobEndpoint, serving

LENGTH: dict[str, Any] = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    for name, seed, size, layers in (("teacher", 5, 64, 2), ("other", 6, 32, 1)):
        write_untrained(folder / f"{name}-base", seed=seed, hidden_size=size, layers=layers)
    write_untrained(folder / "foreign", seed=7, hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "foreign")
    tokenizer.chat_template = TEMPLATE.replace("<|end|>", "<|user|>")  # it ends turns in another way
    tokenizer.save_pretrained(folder / "foreign")
    write_rows(folder / "math.jsonl", with_kinds(builtin_rows("math", count=24)))
    write_rows(folder / "test.jsonl", with_kinds(builtin_rows("math", "test", count=6)))
    write_rows(folder / "colors.jsonl", generate(seed=1, count=24))
    for name, data in (("teacher", "math"), ("other", "colors")):
        teacher = burnish.sft(
            model=folder / f"{name}-base",
            data=folder / f"{data}.jsonl",
            output=folder / f"run-{name}",
            max_steps=20,
            sequences_per_step=12,
            learning_rate=1e-2,
        )
        shutil.copytree(teacher.folder / "model", folder / name)
    return folder


def with_kinds(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows with a column of two kinds."""
    return [{**row, "kind": "even" if index % 2 else "odd"} for index, row in enumerate(rows)]


def given(world: Path, **settings: Any) -> dict[str, Any]:
    base = {"model": str(world / "model"), "data": str(world / "math.jsonl"), "eval_data": str(world / "test.jsonl")}
    sizes = {"groups_per_step": 4, "max_new_tokens": 6, "log_every": 1, "max_steps": 2, "learning_rate": 1e-2}
    small = {"evaluation": {"prompts": 4, "teacher_prompts": 6, "kl_prompts": 4}}
    return {**base, **sizes, **small, "teacher": str(world / "teacher"), **settings}


def run(world: Path, output: Path, **settings: Any) -> burnish.RunResult:
    return burnish.train_stage("distill", **given(world, **settings), output=output)


def teacher_kl(result: burnish.RunResult) -> list[float]:
    return [line["eval/teacher_kl"] for line in metrics(result) if "eval/teacher_kl" in line]


def metrics(result: burnish.RunResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]


def log(result: burnish.RunResult) -> str:
    return (result.folder / "log.txt").read_text()


def built(world: Path, **settings: Any) -> Stage:
    recipe = stage_recipe("distill", given(world, **settings)).recipe
    context: StageContext[DistillSettings] = StageContext.of(recipe)
    [stage] = recipe.stages
    kind = kind_of(stage)
    data = kind.open(context)
    job = build_job(kind, data, "distill")
    for server in data.servers:
        server.close()
    assert isinstance(job, Stage)
    return job


def settings(**changed: Any) -> DistillSettings:
    return DistillSettings(data="rows.jsonl", **{"teacher": "runs/teacher", **changed})


STUDENT = {"model": "student", "ema_decay": 0.9}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"divergence": "jsd", "loss": "policy_gradient"}, "divergence has no effect"),
        ({"jsd_beta": 0.3}, "jsd_beta has no effect without divergence: jsd"),
        ({"top_k": 5, "loss": "full"}, "top_k has no effect"),
        ({"temperature": 2.0, "loss": "policy_gradient"}, "temperature has no effect"),
        ({"reward_coef": 1.0}, "reward_coef needs a reward"),
        ({"teacher_coef": 0.5, "loss": "cross_entropy", "response_source": "teacher"}, "teacher_coef has no effect"),
        ({"policy_gradient": {"entropy_coef": 0.1}}, "policy_gradient has no effect"),
        ({"loss": "cross_entropy"}, "set response_source: teacher"),
        ({"response_source": "data", "loss": "policy_gradient"}, "needs responses of the student"),
        ({"response_source": "teacher", "updates_per_batch": 2}, "needs responses of the student"),
        ({"response_source": "data", "on_policy_fraction": 0.5}, "needs responses of the student"),
        ({"teacher": {"model": "student"}}, "needs something that tells teacher and student apart"),
        ({"teacher": {"model": "student", "ema_decay": 0.0}}, "teach nothing without context"),
        ({"teacher": {"model": "x", "ema_decay": 0.5}}, "is of a teacher that is the student's moving average"),
        ({"teacher": {}}, "a teacher has a model, a url, or tables"),
        ({"teacher": "http://localhost:1", "loss": "full"}, "set loss: top_k"),
        ({"teacher": "http://localhost:1", "temperature": 2.0}, "temperature 1"),
        ({"teacher": {"tables": "x"}}, "needs response_source: data or teacher"),
        ({"teacher": {"tables": "x"}, "response_source": "teacher"}, "a model in this process writes"),
        ({"teacher": {**STUDENT}, "response_source": "data"}, "self-distillation"),
        ({"teacher": ["a", "b"]}, "put it last"),
        ({"teacher": {"model": "a", "where": {"kind": "x"}}, "response_source": "data"}, "one teacher has all rows"),
        ({"teacher": {"model": "a", "where": {"kind": "x"}}, "on_policy_fraction": 0.5}, "one teacher has all rows"),
        ({"teacher": [{"model": "a", "where": {"kind": "x"}}, STUDENT, STUDENT]}, "two teachers are the student"),
        ({"teacher": [{"model": "a", "where": {"kind": "x"}}, "b"], "loss": "uld"}, "loss: uld takes one teacher"),
        ({"on_policy_fraction": 0.5, "loss": "policy_gradient"}, "loss: policy_gradient cannot learn from"),
        ({"loss": "policy_gradient", "sampling": {"top_p": 0.9}}, "remove sampling.top_p"),
        ({"temperature": 2.0, "reward": "exact", "reward_coef": 1.0}, "remove temperature or reward_coef"),
        ({"loss": "policy_gradient", "policy_gradient": {"clip_low": 0.1}}, "no effect where the ratio is exactly 1"),
        ({"stop_on_alerts": ["critic_error"]}, "an alert of a stage ppo"),
        ({"stop_on_alerts": ["zero_reward"]}, "needs a reward"),
        ({"stop_on_alerts": ["teacher_gap"]}, "needs held-out prompts"),
        ({"checkpoints": {"best_metric": "reward"}}, "choose from: teacher_kl"),
        ({"teacher": {"model": "x", "server": {"concurrency": 2}}}, "no effect without teacher.url"),
        ({"teacher": {"model": "student", "ema_decay": 0.9, "placement": "in_turns"}}, "a model that is loaded"),
    ],
)
def test_what_contradicts_itself_is_refused(changed, told):
    with pytest.raises((ValidationError, RecipeError), match=told):
        settings(**changed)


def test_defaults():
    usual = settings()
    assert (usual.compared.kind, usual.compared.support, usual.resolved_top_k) == ("reverse_kl", "top_k", 32)
    assert usual.sampling.top_p == 1.0
    assert settings(teacher="http://localhost:8000").resolved_top_k == 20
    assert settings(sampling={"temperature": 0.7}).resolved_temperature == 0.7
    assert usual.rewards == ()
    values = {key: entry.value for key, entry in usual.resolved_defaults.items()}
    assert (values["divergence"], values["top_k"], values["temperature"]) == ("reverse_kl", 32, 1.0)


@pytest.mark.parametrize(
    "loss",
    [
        {"loss": "top_k", "top_k": 8},
        {"loss": "full"},
        {"loss": "full", "divergence": "jsd", "jsd_beta": 0.3, "temperature": 1.5},
        {"loss": "top_k", "divergence": "forward_kl"},
        {"loss": "policy_gradient", "updates_per_batch": 2, "responses_per_prompt": 16},
        {"loss": "top_k", "response_source": "teacher", "divergence": "forward_kl"},
        {"loss": "top_k", "response_source": "data"},
        {"loss": "full", "response_source": "teacher"},
        {"loss": "top_k", "on_policy_fraction": 0.5},
    ],
    ids=str,
)
def test_every_loss_closes_the_gap(world, tmp_path, loss):
    """The exact KL divergence from the teacher on held-out prompts falls, and the agreement rises."""
    if loss.get("response_source") == "data":
        loss = {**loss, "max_steps": 20}
    result = run(world, tmp_path / "run", **{"max_steps": 12, **loss})
    first, last = teacher_kl(result)
    assert last < 0.9 * first
    [_, evaluated] = [line for line in metrics(result) if "eval/teacher_agreement" in line]
    assert 0 <= evaluated["eval/teacher_agreement"] <= 1
    assert evaluated["eval/student_entropy"] > 0


def test_the_teachers_text_alone(world, tmp_path):
    """Sequence-level distillation: the likelihood of what the teacher wrote rises."""
    result = run(world, tmp_path / "run", loss="cross_entropy", response_source="teacher", max_steps=12)
    losses = [line["train/loss"] for line in metrics(result) if "train/loss" in line]
    assert losses[-1] < losses[0]


def test_a_text_that_stops_the_teacher_is_learned_whole(world):
    """It is content, and no end token takes the place of its last token."""
    stops = {"sampling": {"stop": list("0123456789")}, "max_new_tokens": 12}
    stage = built(world, loss="cross_entropy", response_source="teacher", max_steps=1, **stops)
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    texts = [tokenizer.decode(response.tokens) for group in next(iter(stage.source)) for response in group.responses]
    stopped = [text for text in texts if any(character.isdigit() for character in text)]
    assert stopped
    assert all(text[-1].isdigit() for text in stopped), texts


def test_another_template_of_the_teacher_has_its_own_responses(world, tmp_path):
    """What the cache has was written to other prompts."""
    shutil.copytree(world / "teacher", tmp_path / "teacher")
    entries = []
    for start in ("", "Q: "):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "teacher")
        tokenizer.chat_template = TEMPLATE.replace("{{ message.content }}", start + "{{ message.content }}")
        tokenizer.save_pretrained(tmp_path / "teacher")
        teacher = {"teacher": str(tmp_path / "teacher"), "loss": "cross_entropy", "response_source": "teacher"}
        built(world, **teacher, max_steps=1, responses_per_prompt=1)
        entries.append(sorted(path.name for path in (cache_folder() / "teacher-responses").iterdir()))
    assert len(entries[1]) == len(entries[0]) + 1


def test_equal_models_have_no_gap(world, tmp_path):
    """A student that is its teacher: the divergence is 0, all tokens agree, and no weight changes."""
    result = run(world, tmp_path / "run", teacher=str(world / "model"))
    assert max(map(abs, teacher_kl(result))) < 1e-6
    agreements = {line["eval/teacher_agreement"] for line in metrics(result) if "eval/teacher_agreement" in line}
    assert agreements == {1.0}
    assert all(line.get("train/grad_norm", 0.0) < 1e-4 for line in metrics(result))


def test_rewards_are_measured_and_learned_from(world, tmp_path):
    """With reward_coef the policy gradient of the reward is a term of its own; without, the reward is a metric."""
    measured = run(world, tmp_path / "measured", reward=LENGTH)
    learned = run(world, tmp_path / "learned", reward=LENGTH, reward_coef=1.0)
    for result in (measured, learned):
        lines = metrics(result)
        assert any("eval/accuracy" in line for line in lines)
        assert any("eval/teacher_accuracy" in line for line in lines)
        assert any("rollout/reward" in line for line in lines)
    assert not any("train/policy" in line for line in metrics(measured))
    assert all("train/policy" in line for line in metrics(learned) if "train/loss" in line)


def test_two_teachers_by_task(world, tmp_path):
    teachers = [
        {"model": str(world / "teacher"), "where": {"kind": "odd"}},
        {"model": str(world / "other"), "where": {"kind": "even"}},
    ]
    for loss in ("top_k", "full", "policy_gradient"):
        result = run(world, tmp_path / loss, teacher=teachers, loss=loss)
        [first, _] = teacher_kl(result)
        folders = {teacher["model"]: tmp_path / f"{loss} {Path(str(teacher['model'])).name}" for teacher in teachers}
        alone = [teacher_kl(run(world, folder, teacher=name, loss=loss))[0] for name, folder in folders.items()]
        assert min(alone) < first < max(alone)


@pytest.mark.parametrize("loss", [{"loss": "full"}, {"loss": "top_k"}, {"loss": "top_k", "top_k": 5000}], ids=str)
def test_the_dry_run_of_several_teachers(world, loss):
    """It has the streams of training: whose each token is, and at most the vocabulary."""
    teachers = [{"model": str(world / "teacher"), "where": {"kind": "odd"}}, str(world / "other")]
    stage = built(world, teacher=teachers, dry_run=True, **loss)
    [learner] = stage.learners
    assert stage.dry_run_groups
    learner.dry_run(stage.dry_run_groups)


def test_a_row_without_a_teacher_is_told_before_training(world, tmp_path):
    teachers = [{"model": str(world / "teacher"), "where": {"kind": "odd"}}]
    with pytest.raises(DataError, match="a row that no teacher has"):
        run(world, tmp_path / "run", teacher=teachers)


def test_a_teacher_in_turns_is_the_resident_one(world, tmp_path):
    """Bit for bit: where the weights are changes nothing."""
    named = {"model": str(world / "teacher")}
    resident = run(world, tmp_path / "resident", teacher=named)
    turns = run(world, tmp_path / "turns", teacher={**named, "placement": "in_turns"})
    assert weights(resident) == weights(turns)
    one = run(world, tmp_path / "resident-full", teacher=named, loss="full")
    other = run(world, tmp_path / "turns-full", teacher={**named, "placement": "in_turns"}, loss="full")
    assert weights(one) == weights(other)


def weights(result: burnish.RunResult) -> bytes:
    return (result.folder / "model" / "model.safetensors").read_bytes()


def test_the_average_of_the_student_teaches(world):
    """After every step the teacher is decay · itself + (1 − decay) · the student."""
    stage = built(world, teacher={"model": "student", "ema_decay": 0.75, "context": "Be brief."}, max_steps=3)
    [learner], snapshot = stage.learners, stage.snapshots["student"]
    assert isinstance(snapshot, Snapshot)
    kept = {name: weight.clone() for name, weight in snapshot.state_dict()[0].items()}
    for number, groups in enumerate(stage.source):
        if number:
            for name, parameter in learner.model.trained_parameters():
                kept[f"weights/{name}"].lerp_(parameter.detach(), 0.25)
        for name, weight in snapshot.state_dict()[0].items():
            assert torch.allclose(weight, kept[name], atol=1e-6), (number, name)
        assert float(learner.trainer.step(groups, learner.loss, 200, 1.0)["grad_norm"]) > 0
    assert stage.learners[0].name == POLICY


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"teacher": [{"model": "builtin:tiny", "where": {"kind": "odd"}}, {**STUDENT, "context": "Answer."}]},
        {"adapter": {"kind": "lora"}, "add_tokens": ["<zz>"]},
        {"adapter": {"kind": "lora", "modules_to_save": ["embed_tokens"]}},
    ],
    ids=str,
)
def test_a_student_whose_head_changes_is_no_teacher_of_the_whole_vocabulary(world, tmp_path, changed):
    """Its states would be compared through a head that is not theirs."""
    teacher = {"teacher": {**STUDENT, "context": "Answer."}, "loss": "full"}
    with pytest.raises(RecipeError, match="changes in every step"):
        run(world, tmp_path / "run", **{**teacher, **changed})


def test_at_first_the_average_teaches_nothing(world):
    """Equal weights: the gradient is exactly 0, not rounding that an optimizer normalizes. (With this teacher alone the
    recipe is refused; the other one has no rows.)"""
    no_rows = {"model": str(world / "teacher"), "where": {"subject": "another"}}
    stage = built(world, teacher=[no_rows, STUDENT], max_steps=1)
    [learner] = stage.learners
    before = {name: parameter.detach().clone() for name, parameter in learner.model.trained_parameters()}
    sums = learner.trainer.step(next(iter(stage.source)), learner.loss, 200, 1.0)
    assert float(sums["grad_norm"]) == 0.0
    assert all(torch.equal(before[name], parameter) for name, parameter in learner.model.trained_parameters())


def test_privileged_context_that_differs_by_row_is_warned_of(world, tmp_path):
    shared = run(world, tmp_path / "shared", teacher={"model": "student", "context": "Answer with a number."})
    by_row = run(world, tmp_path / "row", teacher={"model": "student", "context_column": "reference"})
    assert "warning" not in log(shared)
    assert "warning: the teacher's context differs from row to row" in log(by_row)
    assert max(teacher_kl(by_row)) > 0


def test_a_teacher_that_ends_turns_in_another_way_is_refused(world, tmp_path):
    with pytest.raises(ModelError, match="does not end turns with"):
        run(world, tmp_path / "run", teacher=str(world / "foreign"))
    masked = run(world, tmp_path / "masked", teacher=str(world / "foreign"), special_tokens="mask")
    assert "reads prompts in its own chat template" in log(masked)
    assert len(teacher_kl(masked)) == 2


def test_a_teacher_with_another_tokenizer(world, tmp_path):
    """Runs of tokens that span the same bytes are compared, or sorted probabilities; other losses are refused."""
    other = {"teacher": "builtin:tiny"}
    with pytest.raises(ModelError, match="set loss: policy_gradient"):
        run(world, tmp_path / "refused", **other)
    for loss in ("policy_gradient", "uld"):
        result = run(world, tmp_path / loss, loss=loss, **other)
        assert len(teacher_kl(result)) == 2
        assert not any("eval/teacher_agreement" in line for line in metrics(result))
    text = run(world, tmp_path / "text", loss="cross_entropy", response_source="teacher", **other)
    assert (text.folder / "model").is_dir()


def test_a_table_is_written_once_and_probed(world, tmp_path):
    named = {"model": str(world / "teacher"), "tables": str(tmp_path / "table")}
    first = run(world, tmp_path / "first", teacher=named, response_source="data")
    again = run(world, tmp_path / "again", teacher=named, response_source="data")
    assert "the teacher's table is computed once" in log(first)
    assert "the teacher's table is from an earlier run" in log(again)
    assert weights(first) == weights(again)
    alone = run(world, tmp_path / "alone", teacher={"tables": str(tmp_path / "table")}, response_source="data")
    assert weights(alone) == weights(first)
    with pytest.raises(DataError, match="another teacher"):
        run(world, tmp_path / "x", teacher={**named, "model": str(world / "other")}, response_source="data")
    with pytest.raises(DataError, match="other rows or another top_k"):
        run(world, tmp_path / "y", teacher=named, response_source="data", top_k=4)
    with pytest.raises(DataError, match="or temperature"):  # so near that a probe could not tell
        run(world, tmp_path / "t", teacher=named, response_source="data", temperature=1.001)
    with pytest.raises(DataError, match="no whole table"):
        run(world, tmp_path / "z", teacher={"tables": str(tmp_path / "nowhere")}, response_source="data")


def served_model(world: Path, name: str) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(world / name, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def endpoint(world: Path) -> Iterator[LogprobEndpoint]:
    with serving(LogprobEndpoint(served_model(world, "teacher"))) as served:
        yield served


def test_a_served_teacher_is_the_same_teacher(world, tmp_path, endpoint):
    """The weights of `teacher` behind an HTTP endpoint give the run of the model in this process."""
    served = run(world, tmp_path / "served", teacher=endpoint.url, top_k=8)
    own = run(world, tmp_path / "own", top_k=8)
    for one, other in zip(metrics(served), metrics(own), strict=True):
        if "train/loss" in one:
            assert one["train/loss"] == pytest.approx(other["train/loss"], abs=1e-3)
    sampled = run(world, tmp_path / "sampled", teacher=endpoint.url, loss="policy_gradient")
    assert len(teacher_kl(sampled)) == 2
    given_rows = run(world, tmp_path / "given", teacher=endpoint.url, response_source="data")
    assert "the teacher's table is computed once" in log(given_rows)


@pytest.mark.parametrize("response_source", ["student", "data"])
def test_a_resumed_run_refuses_another_served_model(world, tmp_path, endpoint, response_source):
    settings = {"teacher": endpoint.url, "top_k": 8, "checkpoint_every": 1, "max_steps": 3}
    settings |= {"response_source": response_source}
    whole = run(world, tmp_path / "run", **settings)
    (whole.folder / "finished.json").unlink()
    shutil.rmtree(whole.folder / "model")
    endpoint.model = served_model(world, "teacher-base")
    try:
        with pytest.raises(ModelError, match="probe"):
            run(world, tmp_path / "run", **settings)
    finally:
        endpoint.model = served_model(world, "teacher")


def test_a_teacher_of_an_earlier_stage(world, tmp_path):
    """Two stages of the same recipe: the second is the student of the first, and begins before it."""
    shared = {"max_steps": 2, "sequences_per_step": 4, "learning_rate": 1e-2}
    data = str(world / "math.jsonl")
    distill = {key: value for key, value in given(world).items() if key not in ("model", "data", "teacher")}
    recipe = {
        "model": str(world / "model"),
        "output": str(tmp_path / "run"),
        "stages": [
            {"sft": {"data": data, **shared}},
            {"sft": {"data": data, **shared, "max_steps": 12}},
            {"distill": {"data": data, "start_from": "sft", "teacher": "stage:sft-2", **distill}},
        ],
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert min(teacher_kl(burnish.run(path))) > 0.01


@pytest.mark.parametrize("placement", ["resident", "in_turns"])
@pytest.mark.parametrize("student", [{"kind": "full"}, {"kind": "lora", "rank": 2}], ids=str)
def test_a_teacher_with_an_adapter(world, tmp_path, student, placement):
    """A LoRA run teaches: its adapter is loaded over its base, whatever the student trains."""
    lora = tmp_path / "lora"
    burnish.sft(
        model=world / "model",
        data=world / "math.jsonl",
        output=lora,
        adapter={"kind": "lora", "rank": 2},
        max_steps=8,
        sequences_per_step=4,
        learning_rate=1e-2,
    )
    teacher = {"model": str(lora), "placement": placement}
    for loss in ("top_k", "full"):
        result = run(world, tmp_path / loss, teacher=teacher, adapter=student, loss=loss)
        assert min(teacher_kl(result)) > 1e-3  # it is not the base, which the student is


THINKS = TEMPLATE.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")


def test_a_thought_that_the_teachers_template_opens(world, tmp_path):
    """It begins the teacher's responses in the student's tokens; the student's own responses are not read within it."""
    thinker = tmp_path / "thinker"
    shutil.copytree(world / "teacher", thinker)
    tokenizer = AutoTokenizer.from_pretrained(thinker)
    tokenizer.chat_template = THINKS
    tokenizer.save_pretrained(thinker)
    (thinker / "chat_template.jinja").write_text(THINKS)
    with pytest.raises(ModelError, match="begins the answer with '<think>"):
        run(world, tmp_path / "refused", teacher=str(thinker))
    stage = built(world, teacher=str(thinker), loss="cross_entropy", response_source="teacher")
    begun = tokenizer.encode("<think>\n", add_special_tokens=False)
    for group in next(iter(stage.source)):
        for response in group.responses:
            assert response.tokens[: len(begun)].tolist() == begun


def test_plain_text_ends_alike(world, tmp_path):
    """Without a template the end of a text is the tokenizer's own, and has to be one of the teacher's."""
    other = tmp_path / "other-end"
    shutil.copytree(world / "teacher", other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.eos_token = "<|user|>"
    tokenizer.save_pretrained(other)
    for name in ("generation_config.json", "config.json"):
        settings = json.loads((other / name).read_text())
        (other / name).write_text(json.dumps({**settings, "eos_token_id": tokenizer.eos_token_id}))
    rows = [{"prompt": str(row["question"]), "reference": str(row["answer"])} for row in builtin_rows("math", count=8)]
    write_rows(tmp_path / "plain.jsonl", rows)
    plain = {"data": str(tmp_path / "plain.jsonl"), "eval_data": None}
    with pytest.raises(ModelError, match="does not end turns with"):
        run(world, tmp_path / "refused", teacher=str(other), **plain)


def test_a_server_is_measured_at_its_temperature(world, tmp_path, endpoint):
    """Evaluations divide the logits of both by 1, whatever the student was sampled at."""
    shared = {"sampling": {"temperature": 0.5}, "temperature": 1.0, "top_k": 20, "max_steps": 1}
    served = run(world, tmp_path / "served", teacher=endpoint.url, **shared)
    stage = built(world, teacher=endpoint.url, **shared)
    [measured] = [evaluator for evaluator in stage.evaluators if isinstance(evaluator, TeacherKL)]
    assert measured.temperature == 1.0
    assert all(value > 0 for value in teacher_kl(served))


def test_a_replaced_table_is_not_resumed(world, tmp_path):
    """A run whose teacher is a table alone knows the table."""
    table = tmp_path / "table"
    named = {"model": str(world / "teacher"), "tables": str(table)}
    run(world, tmp_path / "writes", teacher=named, response_source="data")
    alone = {"teacher": {"tables": str(table)}, "response_source": "data", "checkpoint_every": 1, "max_steps": 3}
    whole = run(world, tmp_path / "run", **alone)
    (whole.folder / "finished.json").unlink()
    shutil.rmtree(whole.folder / "model")
    shutil.rmtree(table)
    run(world, tmp_path / "again", teacher={**named, "model": str(world / "other")}, response_source="data")
    with pytest.raises(RunError, match="the teacher's table"):
        run(world, tmp_path / "run", **alone)


def test_a_mixture_has_both_parts(world):
    """GKD: the loss is λ · (own responses) + (1 − λ) · (responses of rows), each by its own number of tokens."""
    stage = built(world, on_policy_fraction=0.75, max_steps=1)
    [learner] = stage.learners
    groups = next(iter(stage.source))
    [auxiliary] = [part.of_step(1) for part in learner.auxiliary]
    sums = learner.trainer.step(groups, learner.loss, 200, 0.0, [auxiliary])
    fresh = built(world, max_steps=1)
    own = fresh.learners[0].trainer.step(next(iter(fresh.source)), fresh.learners[0].loss, 200, 0.0)
    assert float(sums["loss"]) == pytest.approx(0.75 * float(own["loss"]) + float(sums["given"]), rel=1e-5)
