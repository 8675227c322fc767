"""What a chat template does not write (kind A)."""

from __future__ import annotations

from typing import Any

from .trial import Trial, case

PHI = "phi35"
WEATHER = {
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Bonn"}}}


def said(role: str, content: str | None, **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **extra}


def rows(*messages: dict[str, Any], count: int = 4, **columns: Any) -> list[dict[str, Any]]:
    """Rows of these messages, with the number of the row in the user's."""
    return [
        {"messages": [{**m, "content": f"{m['content']} {n}"} if m["role"] == "user" else m for m in messages]}
        | columns
        for n in range(count)
    ]


def sft(trial: Trial, model: str, *given: dict[str, Any] | str, settings: tuple[str, ...] = ()) -> Any:
    data = trial.write("rows.jsonl", *given)
    return trial.burnish(
        "sft", "--model", trial.model(model), "--data", data, "--output", "run", "max_steps=1", *settings
    )


def view(trial: Trial, model: str, *given: dict[str, Any], settings: tuple[str, ...] = ()) -> Any:
    data = trial.write("rows.jsonl", *given)
    return trial.burnish("data", "view", data, "--model", trial.model(model), *settings)


RHYMES = said("developer", "Answer in rhymes.")
GREETED = (said("user", "Hello"), said("assistant", "A good day to you too."))


@case("A-01-developer-role")
def developer_becomes_system(trial: Trial) -> None:
    ended = sft(trial, "qwen3", *rows(RHYMES, *GREETED))
    ended.succeeded("<|im_start|>system Answer in rhymes.", "developer")


@case("A-01-developer-role-phi")
def developer_becomes_system_without_other_roles(trial: Trial) -> None:
    view(trial, PHI, *rows(RHYMES, *GREETED)).succeeded("<|system|>", "Answer in rhymes.")


@case("A-01-second-system")
def a_second_system_message_is_written(trial: Trial) -> None:
    later = said("developer", "From now on: one word."), said("user", "And now?"), said("assistant", "Yes.")
    view(trial, "qwen3", *rows(*GREETED, *later)).succeeded("system From now on: one word.")


@case("A-02-reasoning-dropped")
def reasoning_that_vanishes(trial: Trial) -> None:
    turns = said("user", "1+1?"), said("assistant", "2", reasoning_content="One more than 1 is 2.")
    sft(trial, "qwen25", *rows(*turns)).refused("reasoning_content", "rows.jsonl line 1", "train_on=answers")


@case("A-02-reasoning-dropped-pairs")
def reasoning_of_pairs_that_vanishes(trial: Trial) -> None:
    def answer(thought: str) -> list[dict[str, Any]]:
        return [said("assistant", "1", reasoning_content=thought)]

    pairs = [
        {"prompt": [said("user", f"{n}+1?")], "chosen": answer("One more."), "rejected": answer("I guess.")}
        for n in range(4)
    ]
    data = trial.write("pairs.jsonl", *pairs)
    ended = trial.burnish("prefer", "--model", trial.model("qwen25"), "--data", data, "--output", "run", "max_steps=1")
    ended.refused("reasoning_content", "pairs.jsonl line 1")


@case("A-05-function-call-empty")
def old_calls_beside_empty_content(trial: Trial) -> None:
    _old_calls(trial, "")


@case("A-05-function-call-null")
def old_calls_without_content(trial: Trial) -> None:
    _old_calls(trial, None)


def _old_calls(trial: Trial, content: str | None) -> None:
    called = said("assistant", content, function_call={"name": "weather", "arguments": '{"town": "Bonn"}'})
    ended = sft(trial, "qwen25", *rows(said("user", "Weather in Bonn?"), called, functions=[WEATHER]))
    ended.succeeded('"arguments": {"town": "Bonn"}', "The weather of a town.")


@case("A-12-images-as-text")
def images_beside_marks(trial: Trial) -> None:
    asked = said("user", "<image>What stands there?"), said("assistant", "A house.")
    sft(trial, "qwen25", *rows(*asked, images=["house.png"])).refused("images", "rows.jsonl line 1")


@case("A-neighbor-videos")
def videos_beside_marks(trial: Trial) -> None:
    asked = said("user", "<video>What happens?"), said("assistant", "It rains.")
    sft(trial, "qwen25", *rows(*asked, videos=["rain.mp4"])).refused("videos", "rows.jsonl line 1")


@case("A-neighbor-tools")
def tools_that_vanish(trial: Trial) -> None:
    sft(trial, "llama3", *rows(*GREETED, tools=[{"type": "function", "function": WEATHER}])).refused("tools", "line 1")


@case("A-neighbor-calls")
def calls_that_vanish(trial: Trial) -> None:
    called = said("assistant", "", tool_calls=[CALL])
    turns = said("user", "Weather?"), called, said("tool", "9"), said("assistant", "Nine.")
    sft(trial, "llama3", *rows(*turns)).refused("tool_calls", "line 1")


@case("A-neighbor-results")
def results_that_vanish(trial: Trial) -> None:
    turns = said("user", "Weather?"), said("assistant", "I look."), said("tool", "9"), said("assistant", "Nine.")
    sft(trial, PHI, *rows(*turns)).refused("tool", "line 1")


@case("A-neighbor-text-beside-call")
def text_beside_a_call_that_vanishes(trial: Trial) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.tool_calls %}"
        "{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    trial.write("t.jinja", template)
    called = said("assistant", "I look it up.", tool_calls=[CALL])
    turns = said("user", "Weather?"), called, said("tool", "9"), said("assistant", "Nine.")
    sft(trial, "chatml", *rows(*turns), settings=("chat_template=t.jinja",)).refused("content", "tool_calls", "line 1")


@case("A-neighbor-keys-without-use")
def harmless_keys(trial: Trial) -> None:
    turns = said("user", "Hello", id="m1", name="Ann"), said("assistant", "Good day.", id="m2")
    sft(trial, "chatml", *rows(*turns)).succeeded("message keys without use: id, name")


@case("A-neighbor-loss-false")
def other_words_for_untrained(trial: Trial) -> None:
    for key, value in (("loss", False), ("masked", True), ("trainable", False), ("training", False)):
        first = said("assistant", "WRONG", **{key: value})
        ended = view(trial, "chatml", *rows(said("user", "a"), first, said("user", "b"), said("assistant", "RIGHT")))
        ended.succeeded("⟦RIGHT")
        assert "⟦WRONG" not in ended.text, key


@case("A-neighbor-mask-refused")
def a_mask_of_unknown_meaning(trial: Trial) -> None:
    turns = said("user", "a"), said("assistant", "b", mask=1)
    sft(trial, "chatml", *rows(*turns)).refused("mask", "train")


@case("A-neighbor-greeting")
def a_greeting_is_counted(trial: Trial) -> None:
    turns = said("assistant", "Welcome!"), *GREETED
    sft(trial, "chatml", *rows(*turns)).succeeded("4 rows", "begin with a message of the assistant")


@case("A-neighbor-system-dropped-in-rl")
def a_system_message_that_vanishes_from_prompts(trial: Trial) -> None:
    template = (
        "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    trial.write("t.jinja", template)
    given = [{"prompt": [said("system", "Be short."), said("user", f"{n}+1?")], "answer": str(n)} for n in range(4)]
    data = trial.write("rows.jsonl", *given)
    settings = ["reward=number", "responses_per_prompt=2", "groups_per_step=2", "max_new_tokens=4", "max_steps=1"]
    ended = trial.burnish(
        "rl", "--model", trial.model("chatml"), "--data", data, "--output", "run", "chat_template=t.jinja", *settings
    )
    ended.refused("system", "rows.jsonl line 1")


LAST_USER = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% elif m.role == 'assistant' %}"
    "<|im_start|>assistant\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Writes the system message into the last user turn, and no thoughts."""


def generated(trial: Trial, *before: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of `burnish generate` for prompts that begin with these messages."""
    trial.write("t.jinja", LAST_USER)
    data = trial.write("rows.jsonl", *({"prompt": [*before, said("user", f"{n}+1?")]} for n in range(4)))
    words = ["--model", trial.model("chatml"), "--data", data, "--output", "out.jsonl"]
    trial.burnish("generate", *words, "chat_template=t.jinja", "max_new_tokens=4").succeeded()
    return trial.lines("out.jsonl")


@case("A-neighbor-system-in-last-turn")
def a_system_message_in_the_last_turn(trial: Trial) -> None:
    assert len(generated(trial, said("system", "Be short."), *GREETED)) == 4


@case("A-neighbor-thoughts-of-earlier-turns")
def thoughts_of_earlier_turns(trial: Trial) -> None:
    thinking = said("assistant", "<think>Polite.</think>Good day.", reasoning_content="Polite.")
    assert len(generated(trial, said("user", "Hello"), thinking)) == 4


@case("A-neighbor-key-called-thought")
def a_key_that_is_called_as_a_part(trial: Trial) -> None:
    turns = said("user", "Hello", thought="x"), said("assistant", "Good day.", calls="y")
    sft(trial, "chatml", *rows(*turns)).succeeded("message keys without use: calls, thought")


@case("A-neighbor-arguments-of-first-call")
def arguments_of_one_of_two_calls(trial: Trial) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name }}{% if loop.last %}{{ c.function.arguments | tojson }}{% endif %}{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    trial.write("t.jinja", template)
    called = said("assistant", "", tool_calls=[CALL, CALL])
    turns = said("user", "Weather?"), called, said("tool", "9"), said("tool", "8"), said("assistant", "Nine, eight.")
    sft(trial, "chatml", *rows(*turns), settings=("chat_template=t.jinja",)).refused("tool_calls", "line 1")


@case("A-neighbor-no-calls")
def an_empty_list_of_calls(trial: Trial) -> None:
    turns = said("user", "Hello"), said("assistant", "<think>Polite.</think>Good day.", tool_calls=[])
    sft(trial, "deepseek", *rows(*turns)).succeeded("Good day.")


@case("A-neighbor-url-of-an-image")
def a_url_beside_text(trial: Trial) -> None:
    sft(trial, "chatml", *rows(*GREETED, image="https://example.org/a.png")).succeeded("columns without use: image")


@case("A-neighbor-system-before-answers")
def a_system_message_that_an_answer_hides(trial: Trial) -> None:
    trial.write("t.jinja", LAST_USER)
    ended = sft(trial, "chatml", *rows(said("system", "Be short."), *GREETED), settings=("chat_template=t.jinja",))
    ended.refused("written in the prompt, but not once an answer follows", "first user message", "line 1")
