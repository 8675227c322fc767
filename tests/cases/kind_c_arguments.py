"""Arguments of calls as the template wants them: text or objects (kind C).

DeepSeek's template opens a thought in its generation prompt, so a turn that only calls cannot be learned; the last can.
"""

from __future__ import annotations

from .trial import Trial, case


def _view(trial: Trial, model: str, content: str | None, arguments: object, *settings: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Weather in Bonn?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "content": "9"},
        {"role": "assistant", "content": "Nine."},
    ]
    data = trial.write("rows.jsonl", {"messages": messages})
    ended = trial.burnish("data", "view", data, "--model", trial.model(model), *settings)
    ended.succeeded('{"town": "Bonn"}')
    assert "cannot be used" not in ended.text, ended.text


@case("C-06-arguments-as-text")
def arguments_as_text(trial: Trial) -> None:
    _view(trial, "deepseek", "", '{"town": "Bonn"}', "train_on=last")


@case("C-06-arguments-as-text-null-content")
def arguments_as_text_without_content(trial: Trial) -> None:
    _view(trial, "deepseek", None, '{"town": "Bonn"}', "train_on=last")


@case("C-neighbor-python-repr")
def objects_are_not_printed_as_python(trial: Trial) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name }} {{ c.function.arguments }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    trial.write("t.jinja", template)
    call = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Bonn"}}}
    messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    data, model = trial.write("rows.jsonl", {"messages": messages}), trial.model("chatml")
    ended = trial.burnish(
        "sft", "--model", model, "--data", data, "--output", "run", "max_steps=1", "chat_template=t.jinja"
    )
    ended.succeeded('weather {"town": "Bonn"}')
