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
