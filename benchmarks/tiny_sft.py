"""Fine-tuning of the built-in base model, measured by plain `transformers` generation.

    python benchmarks/tiny_sft.py --output runs/tiny

generates with the base model, fine-tunes it on ``builtin:chat``, and generates again: exact matches on the questions of
``builtin:chat/test``, and how many problems of ``builtin:math/test`` are right at once and in one of eight samples.
Prints rows of Markdown.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import burnish
from burnish.builtin.arithmetic import last_number
from burnish.builtin.places import tiny_folder
from burnish.builtin.sets import builtin_rows
from burnish.builtin.style import is_polite
from burnish.data.template import choose_template

BATCH = 100
LONGEST = 48
KINDS = ("fact", "arithmetic", "format")


class Chat:
    """Model that answers questions in batches."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.template = choose_template(self.tokenizer, "chatml").source
        self.ends = [self.tokenizer.convert_tokens_to_ids("<|im_end|>"), self.tokenizer.eos_token_id]

    def answers(self, questions: list[str], *, temperature: float = 0.0) -> list[tuple[str, bool]]:
        """Response to each question, and whether it ended by an end token."""
        answers = []
        for start in range(0, len(questions), BATCH):
            turns = [[{"role": "user", "content": question}] for question in questions[start : start + BATCH]]
            inputs = self.tokenizer.apply_chat_template(
                turns,
                chat_template=self.template,
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
            )
            output = self.model.generate(
                **inputs,
                max_new_tokens=LONGEST,
                **(
                    {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
                ),
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            for tokens in output[:, inputs["input_ids"].shape[1] :].tolist():
                ended = any(end in tokens for end in self.ends)
                answers.append((self.tokenizer.decode(tokens, skip_special_tokens=True), ended))
        return answers

    def continuation(self, text: str) -> str:
        """Greedy continuation of plain text."""
        inputs = self.tokenizer(text, return_tensors="pt")
        output = self.model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        return str(self.tokenizer.decode(output[0], skip_special_tokens=True)).replace("\n", "\\n")


def print_row(name: str, folder: Path, show: int) -> None:
    """Measures a model and prints its row of the table."""
    chat = Chat(folder)
    rows = builtin_rows("chat", "test")
    expected = [row["messages"][1]["content"] for row in rows]
    answers = chat.answers([row["messages"][0]["content"] for row in rows])
    right = defaultdict(list)
    for row, (answer, _), reference in zip(rows, answers, expected, strict=True):
        right[row["kind"]].append(answer == reference)
    problems = builtin_rows("math", "test", count=200)
    results = [int(row["answer"]) for row in problems]
    greedy = chat.answers([row["question"] for row in problems])
    torch.manual_seed(0)
    samples = chat.answers([row["question"] for row in problems for _ in range(8)], temperature=1.0)
    hits = [last_number(sample) == results[index // 8] for index, (sample, _) in enumerate(samples)]
    shares = [
        *(sum(right[kind]) / len(right[kind]) for kind in KINDS),
        sum(ended for _, ended in answers) / len(answers),
        sum(is_polite(answer) for answer, _ in answers) / len(answers),
        sum(last_number(answer) == result for (answer, _), result in zip(greedy, results, strict=True)) / len(results),
        sum(hits) / len(hits),
        sum(any(hits[start : start + 8]) for start in range(0, len(hits), 8)) / len(results),
    ]
    print(f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |", flush=True)
    for row, (answer, _) in list(zip(rows, answers, strict=True))[:show]:
        print(f"    {row['messages'][0]['content']!r} -> {answer!r}; right: {row['messages'][1]['content']!r}")


def main() -> None:
    """Measures the base model, trains, and measures again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=tiny_folder(), help="the base model")
    parser.add_argument("--output", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--show", type=int, default=0, help="number of responses to print")
    arguments = parser.parse_args()
    base = Chat(arguments.model)
    for beginning in ("Mara", "12 + 7 =", "One windy morning", '"Where does Hugo live?" asked'):
        print(f"    {base.continuation(beginning)}")
    print("| model | facts | arithmetic | form | ended | polite | math, greedy | one sample | one of eight |")
    print("|---|---|---|---|---|---|---|---|---|")
    print_row("base", arguments.model, arguments.show)
    began = time.perf_counter()
    run = burnish.sft(
        model=str(arguments.model),
        data="builtin:chat",
        eval_data="builtin:chat/test",
        output=str(arguments.output),
        chat_template="chatml",
        learning_rate=arguments.learning_rate,
        sequences_per_step=16,
    )
    seconds = time.perf_counter() - began
    print_row(f"fine-tuned, {run.summary['steps']} steps, {seconds:.0f} s", run.folder / "model", arguments.show)


main()
