"""A prompt that ends in a begun assistant turn is continued there (kind F)."""

from __future__ import annotations

from .trial import Trial, case

BEGUN = "Let me think step by step.\n<think>"


@case("F-09-rl-prefill")
def continues_a_begun_turn(trial: Trial) -> None:
    turns = [[{"role": "user", "content": f"{n}+1?"}, {"role": "assistant", "content": BEGUN}] for n in range(4)]
    rows = [{"prompt": prompt, "answer": str(number + 1)} for number, prompt in enumerate(turns)]
    data, model = trial.write("rows.jsonl", *rows), trial.model("qwen25")
    settings = ["reward=number", "responses_per_prompt=2", "groups_per_step=2", "max_new_tokens=4", "max_steps=1"]
    trial.burnish("rl", "--model", model, "--data", data, "--output", "run", *settings).succeeded()
    samples = trial.lines("run/samples.jsonl")
    assert samples
    assert all(sample["response"].startswith(BEGUN) for sample in samples)


@case("F-neighbor-generate")
def generation_continues_a_begun_turn(trial: Trial) -> None:
    """The prompt's tokens end with the begun turn, and the response begins with its text."""
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": BEGUN}]
    data = trial.write("rows.jsonl", {"prompt": turns, "answer": "2"})
    words = ["--model", trial.model("qwen25"), "--data", data, "--output", "answers.jsonl", "max_new_tokens=4"]
    trial.burnish("generate", *words, "logprobs=true").succeeded()
    [line] = trial.lines("answers.jsonl")
    assert line["responses"][0].startswith(BEGUN), line["responses"]
    assert [message["role"] for message in line["prompt"]] == ["user"], line["prompt"]


@case("F-neighbor-evaluation")
def an_evaluation_continues_a_begun_turn(trial: Trial) -> None:
    """An answer in the begun thought is no answer: nothing is right although the begun turn has the reference."""
    begun = "<think>2, so the answer is 2."
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": begun}]
    data = trial.write("rows.jsonl", {"prompt": turns, "answer": "2"})
    words = ["--data", data, "verifier=number", "max_new_tokens=2", "--samples", "samples.jsonl"]
    trial.burnish("eval", trial.model("qwen25"), *words).succeeded()
    for sample in trial.lines("samples.jsonl"):
        assert sample["response"].startswith(begun), sample
        assert not sample.get("correct", sample.get("reward")), sample
