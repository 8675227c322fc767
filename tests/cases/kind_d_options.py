"""Names of template options that the template does not read (kind D)."""

from __future__ import annotations

from .trial import Trial, case


def _refused(trial: Trial, model: str, option: str, *parts: str) -> None:
    turns = [
        {"messages": [{"role": "user", "content": f"{n}+1?"}, {"role": "assistant", "content": str(n + 1)}]}
        for n in range(4)
    ]
    data = trial.write("rows.jsonl", *turns)
    ended = trial.burnish(
        "sft", "--model", trial.model(model), "--data", data, "--output", "run", "max_steps=1",
        f"chat_template_kwargs.{option}=false",
    )  # fmt: skip
    ended.refused(option, *parts)


@case("D-07-template-option-typo")
def a_typo_is_refused(trial: Trial) -> None:
    _refused(trial, "qwen3", "enable_thinkin", "enable_thinking")


@case("D-07-template-option-unknown")
def an_option_that_nothing_reads(trial: Trial) -> None:
    _refused(trial, "chatml", "enable_thinking", "chat template")


@case("D-neighbor-reserved")
def an_option_that_is_given_anyway(trial: Trial) -> None:
    _refused(trial, "chatml", "add_generation_prompt", "chat_template_kwargs")
