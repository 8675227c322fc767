"""On-policy distillation in one flat file: the computation of `burnish distill`, without Burnish.

Needs only torch, numpy and transformers. The responses to a prompt together, plain forwards of the whole sequence of
student and teacher, full logits: slow, and easy to check. The student writes the responses; the teacher reads the same
tokens once. Three losses, each the mean over all tokens of the step's responses:

    full               KL(student ‖ teacher) of every next-token distribution, over the whole vocabulary
    top_k              the same over k + 1 buckets: the teacher's k likeliest tokens, and all others together
    policy_gradient    of the sampled tokens alone, with the advantage −(log π_student − log π_teacher)

    python examples/distill_flat.py
    python examples/distill_flat.py MODEL_FOLDER TEACHER_FOLDER QUESTIONS.jsonl --loss top_k --learning-rate 1e-5

Every line of QUESTIONS.jsonl has a question. The tokenizer, which student and teacher share, has a chat template that
ends an assistant's turn with its end token. Without arguments, the student is the built-in model, the questions are
those of builtin:chat, and both are trained on their answers first: the student a little, the teacher from there for
`--teacher-steps`. `kl`, which is exact for every loss, falls from 2.3 to 1.0 in a minute.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BUILTIN = Path(__file__).parents[1] / "burnish" / "builtin" / "tiny-base"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
parser = argparse.ArgumentParser(description="On-policy distillation in one flat file.")
parser.add_argument("model", nargs="?", default=str(BUILTIN))
parser.add_argument("teacher", nargs="?", help="folder; default: the model after more supervised training")
parser.add_argument("questions", nargs="?", help="default: those of builtin:chat")
parser.add_argument("--loss", choices=("full", "top_k", "policy_gradient"), default="full")
parser.add_argument("--top-k", type=int, default=16)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--teacher-steps", type=int, default=100)
parser.add_argument("--prompts-per-step", type=int, default=8)
parser.add_argument("--responses-per-prompt", type=int, default=4)
parser.add_argument("--max-new-tokens", type=int, default=24)
parser.add_argument("--learning-rate", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(arguments.model).train()
tokenizer = AutoTokenizer.from_pretrained(arguments.model)
if tokenizer.chat_template is None:
    tokenizer.chat_template, tokenizer.eos_token = CHATML, "<|im_end|>"
WORD = 2**64


def mixed(state: int) -> int:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def uniform(*coordinates: int) -> float:
    """Random number in [0, 1), a function of seed, step, prompt, response and token position."""
    state = mixed(arguments.seed % WORD)
    for coordinate in coordinates:
        state = mixed((state + 0x9E3779B97F4A7C15 + coordinate) % WORD)
    return (state >> 11) * 2.0**-53


def row_at(position: int) -> dict:
    """Row at a position of the draws: every epoch has each row once, in another order."""
    epoch, place = divmod(position, len(rows))
    return rows[np.random.default_rng([arguments.seed, epoch]).permutation(len(rows))[place]]


def builtin_rows() -> list[dict]:
    """Questions and answers of builtin:chat, which the installed Burnish writes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "burnish.builtin", folder], check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()
    asked = (json.loads(line)["messages"] for line in lines)
    return [{"question": turns[0]["content"], "answer": turns[1]["content"]} for turns in asked if len(turns) == 2]


def prompt_of(question: str) -> list[int]:
    turns = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def generate(prompt: list[int], step: int, key: int) -> list[list[int]]:
    """Responses to a prompt, each up to its end token or `max_new_tokens`, by inverse transform sampling."""
    responses: list[list[int]] = [[] for _ in range(arguments.responses_per_prompt)]
    tokens = torch.tensor([prompt] * arguments.responses_per_prompt)
    for place in range(arguments.max_new_tokens):
        cumulative = model(tokens, use_cache=False).logits[:, -1].float().softmax(-1).cumsum(-1)
        numbers = torch.tensor([[uniform(step, key, index, place)] for index in range(arguments.responses_per_prompt)])
        chosen = (cumulative <= numbers * cumulative[:, -1:]).sum(-1, keepdim=True)
        for response, token in zip(responses, chosen[:, 0].tolist(), strict=True):
            if not response or response[-1] != tokenizer.eos_token_id:
                response.append(token)
        tokens = torch.cat([tokens, chosen], dim=1)
    return responses


def logprobs(network: torch.nn.Module, prompt: list[int], response: list[int]) -> torch.Tensor:
    """[R, V] log-probabilities of the whole vocabulary where the response's tokens are predicted, nats."""
    tokens = torch.tensor(prompt + response)
    return network(tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)


def of_tokens(scores: torch.Tensor, response: list[int]) -> torch.Tensor:
    """[R] those of the response's tokens."""
    return scores.gather(1, torch.tensor(response)[:, None])[:, 0]


def reverse_kl(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """[R] KL(student ‖ teacher) of each distribution."""
    return (own.exp() * (own - other)).sum(-1)


def buckets(scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """[R, k + 1] log-probabilities of the tokens at these places, and of all others together."""
    others = scores.scatter(1, places, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([scores.gather(1, places), others], dim=1)


def loss_of_tokens(own: torch.Tensor, other: torch.Tensor, response: list[int]) -> torch.Tensor:
    """[R] what is minimized, by the log-probabilities of student (with its gradient) and teacher."""
    if arguments.loss == "full":
        return reverse_kl(own, other)
    if arguments.loss == "top_k":
        places = other.topk(arguments.top_k).indices
        return reverse_kl(buckets(own, places), buckets(other, places))
    # The trap: log π_student(y) − log π_teacher(y) is an estimate of the KL, but as a loss it teaches nothing. Its
    # gradient is ∇ log π_student(y), in which the teacher does not occur, and whose mean over the student's own samples
    # is 0. The gradient of the KL is the mean of (log π_student(y) − log π_teacher(y)) ∇ log π_student(y): the
    # difference is a factor, without a gradient of its own.
    logprob = of_tokens(own, response)
    advantage = -(logprob - of_tokens(other, response)).detach()
    ratio = torch.exp(logprob - logprob.detach())  # 1 with one update, with the gradient of logprob
    return -ratio * advantage


def supervise(network: torch.nn.Module, steps: range) -> torch.nn.Module:
    """The network after supervised training on the answers, 16 rows a step."""
    teaching = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    for step in steps:
        for row in (row_at(step * 16 + number) for number in range(16)):
            answer = [*tokenizer(row["answer"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            share = -of_tokens(logprobs(network, prompt_of(row["question"]), answer), answer).mean() / 16
            share.backward()
        teaching.step()
        teaching.zero_grad()
    return network


if arguments.questions is None:
    rows = builtin_rows()
else:
    with open(arguments.questions, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
if arguments.teacher is None:
    supervise(model, range(20))
    teacher = supervise(copy.deepcopy(model), range(20, 20 + arguments.teacher_steps))
else:
    teacher = AutoModelForCausalLM.from_pretrained(arguments.teacher)
teacher.eval().requires_grad_(False)
optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.0)

for step in range(arguments.steps):
    written = []
    for key in range(step * arguments.prompts_per_step, (step + 1) * arguments.prompts_per_step):
        prompt = prompt_of(row_at(key)["question"])
        written += [(prompt, response) for response in generate(prompt, step, key)]

    loss, kl, total = 0.0, 0.0, sum(len(response) for _, response in written)
    for prompt, response in written:
        own, other = logprobs(model, prompt, response), logprobs(teacher, prompt, response)
        share = loss_of_tokens(own, other, response).sum() / total
        share.backward()
        loss += share.item()
        kl += reverse_kl(own.detach(), other).sum().item() / total
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
    optimizer.step()
    optimizer.zero_grad()
    print(json.dumps({"step": step + 1, "loss": loss, "kl": kl, "grad_norm": norm}), flush=True)
