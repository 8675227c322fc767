"""What a reward is given (kind E), and causes that are told (kind K): rewards, shapes of settings, repeated options."""

from __future__ import annotations

from pathlib import Path

from .trial import Ended, Trial, case

SUMS = [{"question": f"{n}+1?", "answer": f"{n + 1}"} for n in range(8)]
RL = ["responses_per_prompt=4", "groups_per_step=2", "max_new_tokens=4"]


def run_rl(trial: Trial, reward: str, *settings: str, rows: object = SUMS) -> Ended:
    """A stage rl of a function of completions in rewards.py."""
    data = trial.write("rows.jsonl", *rows)  # type: ignore[misc]  # rows
    trial.write("rewards.py", reward)
    name = reward.partition("def ")[2].partition("(")[0]
    words = ["--model", trial.model("qwen25"), "--data", data, "--output", "run", f"reward=rewards.py:{name}"]
    return trial.burnish("rl", *words, *RL, *settings)


@case("E-08-columns-do-not-replace-completions")
def columns_do_not_replace_completions(trial: Trial) -> None:
    older = {"completions": ["of an older model"], "prompts": "an older prompt", "completion_ids": [1], "level": 3}
    reward = (
        "def told(completions, prompts, level, **columns):\n"
        "    assert all(isinstance(one, list) and one[0]['role'] == 'assistant' for one in completions), completions\n"
        "    assert all(isinstance(one, list) and one[0]['role'] == 'user' for one in prompts), prompts\n"
        "    assert level == [3] * len(completions) and columns['completion_ids'] != [[1]] * len(completions)\n"
        "    return [float(len(one[0]['content'])) for one in completions]\n"
    )
    ended = run_rl(trial, reward, "max_steps=1", rows=[{**row, **older} for row in SUMS])
    ended.succeeded("names are the program's: prompts, completions, completion_ids")
    assert all(sample["parts"]["told"] is not None for sample in trial.lines("run/samples.jsonl"))


CRASHING = "def level(completions, **columns):\n    return [float(one[0]['text']) for one in completions]\n"


@case("K-17-crash-of-a-reward")
def the_first_exception_is_told(trial: Trial) -> None:
    run_rl(trial, CRASHING, "max_steps=1").refused(
        "KeyError: 'text'",
        "rewards.py line 2: return [float(one[0]['text']) for one in completions]",
        "of 16 responses",
    )


@case("K-neighbor-crash-on-some-responses")
def the_first_exception_is_in_the_log(trial: Trial) -> None:
    """Also where the run goes on, and only once."""
    reward = (
        "def odd(completions, prompts, **columns):\n"
        "    if '1+1' in prompts[0][-1]['content']:\n"
        "        raise ValueError('no level for this row')\n"
        "    return [float(len(one[0]['content']) % 3) for one in completions]\n"
    )
    run_rl(trial, reward, "max_steps=4", "max_resamples=1").succeeded(
        "ValueError: no level for this row (rewards.py line 3: raise ValueError('no level for this row'))"
    )
    log = (trial.folder / "run/log.txt").read_text(encoding="utf-8")
    assert log.count("odd: crash on") == 1, log


@case("K-18-rewards-all-equal")
def equal_rewards_are_called_that(trial: Trial) -> None:
    reward = "def one(completions, **columns):\n    return [1.0 for _ in completions]\n"
    run_rl(trial, reward, "max_steps=4").succeeded("all responses to a prompt get the same reward")


def run_file(trial: Trial, *lines: str) -> Ended:
    trial.write("rows.jsonl", *SUMS)
    text = "\n".join([f"model: {trial.model('chatml')}", "output: out", *lines]) + "\n"
    return trial.burnish("run", trial.write("recipe.yaml", text))


@case("K-27-stages-as-a-mapping")
def stages_are_a_list(trial: Trial) -> None:
    run_file(trial, "stages:", "  sft: {data: rows.jsonl}").refused("stages: a mapping with sft", "`- sft: …`")


@case("K-neighbor-a-stage-as-a-word")
def a_stage_is_a_mapping(trial: Trial) -> None:
    run_file(trial, "stages: [sft]").refused("`- sft: {")


@case("K-neighbor-settings-as-a-list")
def a_group_is_a_mapping(trial: Trial) -> None:
    ended = run_file(trial, "stages:", "  - sft: {data: rows.jsonl, schedule: [cosine]}")
    ended.refused("schedule: a list of 1", "must be a mapping of settings")


@case("K-27-one-word-for-a-list")
def one_word_is_a_list_of_one(trial: Trial) -> None:
    """Trackers and others: a text where only a list can stand."""
    settings = "  - sft: {data: rows.jsonl, max_steps: 1, optimizer: {weight_decay: 0.1, no_weight_decay: norm}}"
    run_file(trial, "trackers: tensorboard", "stages:", settings).succeeded()
    assert (trial.folder / "out/model").is_dir()
    assert any(path.name.startswith("events") for path in Path(trial.folder / "out").rglob("*"))


@case("K-neighbor-adapter-as-a-word")
def a_kind_alone_is_enough(trial: Trial) -> None:
    run_file(trial, "adapter: lora", "stages:", "  - sft: {data: rows.jsonl, max_steps: 1}").succeeded()
    assert (trial.folder / "out/model/adapter_config.json").exists()


@case("K-27-rows-in-memory")
def rows_in_memory_train(trial: Trial) -> None:
    from datasets import Dataset

    sft = trial.named("sft", "burnish")
    rows = [{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]}]
    for name, data in (("list", rows), ("dataset", Dataset.from_list(rows))):
        assert sft(model=trial.model("chatml"), data=data, output=str(trial.folder / name), max_steps=1).steps == 1


def run_sft(trial: Trial, *words: str) -> Ended:
    trial.write("rows.jsonl", *SUMS)
    trial.write("more.jsonl", *SUMS[:3])
    return trial.burnish("sft", "--model", trial.model("chatml"), "--output", "run", "max_steps=1", *words)


@case("silent-data-given-twice")
def data_given_twice_is_a_mixture(trial: Trial) -> None:
    run_sft(trial, "--data", "rows.jsonl", "--data", "more.jsonl").succeeded("11 rows", "more.jsonl: 3 rows")


@case("silent-neighbor-an-option-given-twice")
def an_option_of_one_value_is_given_once(trial: Trial) -> None:
    run_sft(trial, "--data", "rows.jsonl", "--seed", "1", "--seed", "2").refused("--seed is given 2 times")


@case("silent-neighbor-an-option-and-a-key")
def an_option_and_its_key_agree(trial: Trial) -> None:
    run_sft(trial, "--data", "rows.jsonl", "data=more.jsonl").refused(
        "data is given as 'rows.jsonl' and as 'more.jsonl'"
    )


@case("silent-template-that-no-row-uses")
def a_template_that_no_row_uses_is_refused(trial: Trial) -> None:
    """Plain text of preferences and prompts is never glued to a template."""
    model = trial.model("llama3")
    pairs = trial.write(
        "pairs.jsonl", *({"prompt": f"{n}+1 = ", "chosen": f"{n + 1}", "rejected": "7"} for n in range(4))
    )
    words = ["--model", model, "--output", "run", "chat_template=plain", "max_steps=1"]
    for stage in ("prefer", "reward"):
        trial.burnish(stage, "--data", pairs, *words).refused("chat_template: plain", "plain text")
    prompts = trial.write("prompts.jsonl", *({"prompt": f"{n}+1 = ", "answer": f"{n + 1}"} for n in range(4)))
    trial.burnish("rl", "--data", prompts, *words, "reward=number", *RL).refused("chat_template: plain", "plain text")


@case("silent-neighbor-template-of-a-part-of-a-mixture")
def a_template_that_some_rows_use_is_taken(trial: Trial) -> None:
    """Plain documents before conversations, and plain held-out rows."""
    texts = trial.write("texts.jsonl", *({"text": f"line {n}"} for n in range(300)))
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    chats = trial.write("chats.jsonl", *({"messages": turns} for _ in range(4)))
    words = ["--model", trial.model("chatml"), "--output", "run", "chat_template=plain", "max_steps=1"]
    trial.burnish("sft", "--data", texts, "--data", chats, "--eval-data", texts, *words).succeeded()
