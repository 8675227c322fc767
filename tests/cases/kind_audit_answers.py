"""Verifiers pay the answer of a response and nothing else: faults 2, 4, 5, 11, 14 and 15 of the audit."""

from __future__ import annotations

from typing import Any

from .trial import Trial, case

REWARDS = ("burnish.rewards.exact", "burnish.rewards.choice", "burnish.rewards.mathematics")
OLDER = ("burnish.tasks.closed", "burnish.tasks.mathematics")


def pays(trial: Trial, reward: str, response: str, reference: str, older: str = "", **settings: Any) -> bool:
    """Whether a built-in reward calls a response right; a failure is raised."""
    names = [f"{module}:{older}" if older else module for module in OLDER]
    kind: Any = trial.named(reward, *REWARDS, *names)
    view: Any = trial.named("ResponseView", "burnish.rewards.response_view", "burnish.tasks.answer:Answer")
    return bool(kind(**settings).score(view("What is it?", response, reference=reference)))


OPENING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def rewards_see_the_opened_thought(trial: Trial, rows: list[dict[str, Any]], *settings: str) -> None:
    """Runs a step of RL whose reward is 1 if the response begins with an opened thought."""
    rule = trial.write("opened.py", "def opened(answer):\n    return answer.text.startswith('<think>')\n")
    given = [f"reward={rule}:opened", "responses_per_prompt=2", "groups_per_step=2", "max_new_tokens=4", "max_steps=1"]
    command = ["rl", "--model", trial.model("chatml"), "--data", trial.write("rows.jsonl", *rows), "--output", "run"]
    trial.burnish(*command, *given, *settings).succeeded()
    samples = trial.lines("run/samples.jsonl")
    assert samples
    assert all(sample["reward"] == 1 for sample in samples)


@case("audit-02-thought-of-the-template")
def a_thought_that_the_template_opens_is_part_of_the_response(trial: Trial) -> None:
    rows = [{"question": f"{number}+1?", "answer": str(number + 1)} for number in range(4)]
    template = trial.write("opening.jinja", OPENING)
    rewards_see_the_opened_thought(trial, rows, f"chat_template={template}")


@case("audit-02-neighbor-plain-prompt")
def a_thought_that_a_plain_prompt_opens_is_part_of_the_response(trial: Trial) -> None:
    rewards_see_the_opened_thought(
        trial, [{"prompt": f"{number}+1? <think>", "answer": str(number + 1)} for number in range(4)]
    )


@case("audit-04-choice-rejected")
def a_rejected_option_is_not_chosen(trial: Trial) -> None:
    for response, right, wrong in (
        ("Option B is incorrect, the answer is C", "C", "B"),
        ("Since option A is impossible, choose option C", "C", "A"),
        ("My choice: B\nThis option is right.", "B", "C"),
    ):
        assert pays(trial, "ChoiceReward", response, right), response
        assert not pays(trial, "ChoiceReward", response, wrong), response
    assert not pays(trial, "ChoiceReward", "Option D can be ruled out.", "D")


@case("audit-04-neighbor-last-line")
def a_rejection_on_the_last_line_is_no_choice(trial: Trial) -> None:
    response = "The answer is A.\nOption B is wrong."
    assert pays(trial, "ChoiceReward", response, "A")
    assert not pays(trial, "ChoiceReward", response, "B")


@case("audit-04-neighbor-numbers")
def a_rejected_number_is_no_answer(trial: Trial) -> None:
    for response in ("It is not 5.", "5 is wrong.", "The answer is 6, not 5.", "I do not think the answer is 5."):
        assert not pays(trial, "NumberReward", response, "5"), response
    for response in ("The answer is 5, not 6.", "The answer is not 6 but 5.", "The answer is 6. No, 5."):
        assert pays(trial, "NumberReward", response, "5"), response


@case("audit-04-neighbor-hedges")
def a_guess_is_no_answer(trial: Trial) -> None:
    for response in ("Maybe the answer is 5.", "The answer might be 5.", "Is it 5?", "If the answer is 5, so be it."):
        assert not pays(trial, "NumberReward", response, "5"), response
    assert not pays(trial, "ChoiceReward", "Maybe the answer is B.", "B")


@case("audit-05-latex-is-read")
def usual_latex_is_right(trial: Trial) -> None:
    for reward in ("MathReward", "NumberReward"):
        for response, reference in (
            ("\\boxed{10{,}000}", "10000"),
            ("\\boxed{\\displaystyle 42}", "42"),
            ("\\boxed{\\displaystyle \\frac{14}{3}}", "\\frac{14}{3}"),
            ("The answer is x = 5", "5"),
            ("The answer is 5 - 3 = 2", "2"),
        ):
            assert pays(trial, reward, response, reference), (reward, response)
    assert pays(trial, "MathReward", "\\boxed{2,516_8}", "2516_8")


@case("audit-05-phrase-with-markup")
def a_phrase_with_marked_up_numbers_is_read(trial: Trial) -> None:
    for number in ("$5$", "\\(5\\)", "**5**"):
        assert pays(trial, "MathReward", f"The answer is {number} apples.", "5"), number
    assert pays(trial, "MathReward", "The answer is $\\frac{3}{4}$ of the cake.", "\\frac{3}{4}")


@case("audit-05-pieces-of-expressions")
def a_piece_of_an_expression_is_no_answer(trial: Trial) -> None:
    for response, wrong in (
        ("It is \\frac{1}{2}", "2"),
        ("It is 10^{3}", "3"),
        ("It is 10^{3}", "10"),
        ("2**10", "10"),
        ("it is 1e2", "1"),
        ("it is 1.5e3", "1.5"),
    ):
        assert not pays(trial, "MathReward", response, wrong), response
    assert not pays(trial, "NumberReward", "it is 1.5e3", "1.5")


@case("audit-05-units-that-are-the-answer")
def morning_is_not_evening_and_a_set_is_no_pair(trial: Trial) -> None:
    assert pays(trial, "MathReward", "\\boxed{8 \\text{ p.m.}}", "8\\text{ p.m.}")
    assert not pays(trial, "MathReward", "\\boxed{8\\text{ a.m.}}", "8\\text{ p.m.}")
    assert not pays(trial, "MathReward", "\\boxed{\\{3,4\\}}", "(3,4)")


@case("audit-05-neighbor-headings")
def headings_are_no_answers(trial: Trial) -> None:
    response = "#### Step 1\n2 + 3 = 5\n#### Result\nThe answer is 5."
    assert pays(trial, "NumberReward", response, "5")
    assert pays(trial, "MathReward", response, "5")


@case("audit-05-neighbor-expressions")
def roots_factorials_variables_and_pairs_are_not_cut(trial: Trial) -> None:
    for response in (
        "It is \\sqrt{2}.",
        "It is 3\\sqrt{2}.",
        "It is $2!$.",
        "It is 2x.",
        "It is (1, 2).",
        "It is x^2.",
    ):
        assert not pays(trial, "MathReward", response, "2"), response


@case("audit-05-neighbor-directions")
def north_is_not_south(trial: Trial) -> None:
    assert not pays(trial, "MathReward", "\\boxed{45 \\text{ degrees south}}", "45 \\text{ degrees north}")


@case("audit-11-match-number")
def a_pair_is_no_number(trial: Trial) -> None:
    matches: Any = trial.named("matches", "burnish.rewards.match", "burnish.evaluate.match")
    assert not matches("the point is (3,4)", "34", "number")
    assert not matches("1990,2000", "19902000", "number")
    assert not matches("3/4", "7/4", "number")
    assert matches("It is 7/4.", "1.75", "number")
    assert matches("It is 19,902,000.", "19902000", "number")


@case("audit-14-end-phrase-case")
def the_case_of_an_end_phrase_does_not_count(trial: Trial) -> None:
    follows: Any = trial.named("follows", "burnish.rewards.instructions.check", "burnish.tasks.instructions.check")
    phrase = {"end_phrase": "Is there anything else?"}
    assert follows("Well. is there anything else?", "startend:end_checker", phrase)
    assert not follows("\u201cWell.\u201d", "startend:quotation", {})


@case("audit-15-normalized-punctuation")
def punctuation_with_a_meaning_counts(trial: Trial) -> None:
    for response, reference in (("35", "3.5"), ("5", "-5"), ("C", "C++"), ("34", "3/4"), ("A", "A+")):
        assert not pays(trial, "NormalizedReward", response, reference, "NormalisedReward"), response
        assert pays(trial, "NormalizedReward", f" {reference}! ", reference, "NormalisedReward"), reference


@case("audit-15-neighbor-letter-a")
def the_letter_a_is_not_only_an_article(trial: Trial) -> None:
    assert pays(trial, "NormalizedReward", "A.", "A", "NormalisedReward")
    assert not pays(trial, "NormalizedReward", "The", "A", "NormalisedReward")
