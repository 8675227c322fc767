"""Faults of the audit that concern what is learned: epochs, equal rewards, divergences, mismatched pairs."""

from __future__ import annotations

from collections import Counter

import torch

from .trial import Trial, case

SUMS = [{"question": f"{n}+1?", "answer": f"{n + 1}"} for n in range(8)]


@case("audit-01-an-epoch-is-one-pass")
def an_epoch_is_one_pass(trial: Trial) -> None:
    """Of 40 rows every second one is too long and dropped: the others are seen once."""
    rows = [{"question": f"{n}?", "answer": "x" * (400 if n % 2 else 1)} for n in range(40)]
    data, model = trial.write("rows.jsonl", *rows), trial.model("chatml")
    settings = ["overlong=drop", "max_length=128", "sequences_per_step=5", "epochs=1", "log_every=1"]
    trial.burnish("sft", "--model", model, "--data", data, "--output", "run", *settings).succeeded()
    steps = [line["step"] for line in trial.lines("run/metrics.jsonl") if "train/loss" in line]
    assert steps == [1, 2, 3, 4], steps


def advantages(trial: Trial, rewards: list[float], **rule: str) -> list[float]:
    """Advantages of responses to one prompt."""
    group, response = (trial.named(name, "burnish.types") for name in ("Group", "Response"))
    credit = trial.named("credit", "burnish.credit.credit")
    settings = trial.named("Credit", "burnish.credit.credit")(**rule)
    tokens = torch.arange(2)
    responses = tuple(response(tokens=tokens, trainable=tokens >= 0, reward=reward) for reward in rewards)
    [credited] = credit([group(prompt=torch.tensor([1]), responses=responses)], settings).groups
    return [float(one.advantages[0]) for one in credited.responses]


@case("audit-03-equal-rewards-teach-nothing")
def equal_rewards_teach_nothing(trial: Trial) -> None:
    for rewards in ([0.7] * 8, [1.2] * 8, [100.1] * 15, [1 / 3] * 7, [0.1 + 0.2, 0.3]):
        assert set(advantages(trial, rewards)) == {0.0}, rewards


RL = ["responses_per_prompt=4", "groups_per_step=2", "max_new_tokens=4", "log_every=1"]


def groups_dropped(trial: Trial, reward: str, *settings: str) -> list[float]:
    """Of each step of a stage rl."""
    data = trial.write("rows.jsonl", *SUMS)
    trial.write("rewards.py", f"def told(completions, prompts, **columns):\n    return [{reward}]\n")
    words = ["--model", trial.model("qwen25"), "--data", data, "--output", "run", "reward=rewards.py:told", *RL]
    trial.burnish("rl", *words, "max_steps=3", *settings).succeeded()
    return [line["rollout/groups_dropped"] for line in trial.lines("run/metrics.jsonl") if "train/loss" in line]


SOLVED = (
    "1.0 if int(prompt[-1]['content'][0]) % 2 else float(sum(map(ord, str(one))) % 7) "
    "for prompt, one in zip(prompts, completions)"
)
"""Every second prompt is always solved."""


@case("audit-09-a-divergence-goes-over-all-responses")
def a_divergence_goes_over_all_responses(trial: Trial) -> None:
    """With a divergence from the reference, prompts that are always solved are not dropped."""
    assert groups_dropped(trial, SOLVED, "kl_coef=0.1", "policy_gradient.kl_estimator=k2") == [0.0] * 3


@case("audit-09-neighbor-in-the-reward")
def in_the_reward(trial: Trial) -> None:
    assert groups_dropped(trial, SOLVED, "kl_coef=0.1", "policy_gradient.kl_in=reward") == [0.0] * 3


@case("audit-09-neighbor-entropy-bonus")
def an_entropy_bonus_goes_over_all_responses(trial: Trial) -> None:
    assert groups_dropped(trial, SOLVED, "policy_gradient.entropy_coef=0.01") == [0.0] * 3


@case("audit-15-mismatched-pairs-have-other-prompts")
def mismatched_pairs_have_other_prompts(trial: Trial) -> None:
    """Labelled rows made of pairs: two rows of each prompt."""
    group, response = (trial.named(name, "burnish.types") for name in ("Group", "Response"))
    older = "burnish.sources.mismatch"
    mismatched = trial.named("mismatched", "burnish.sources.mismatched_pairs", older)
    groups = []
    for row in range(12):
        tokens = torch.tensor([100 + row // 2, 7])
        responses = (response(tokens=tokens, trainable=tokens >= 0, reward=float(row % 2)),)
        groups.append(group(prompt=torch.tensor([row // 2]), responses=responses))
    for step in range(20):
        drawn = mismatched(groups, seed=0, step=step)
        pairs = Counter((int(one.prompt[0]), int(one.responses[0].tokens[0]) - 100) for one in drawn)
        assert len(drawn) == 12
        assert not any(prompt == owner for prompt, owner in pairs), pairs


@case("audit-15-answers-begin-after-the-tag")
def answers_begin_after_the_tag(trial: Trial) -> None:
    """With train_on: answers, a token that ends </think> and writes line breaks too is not learned."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {letter: number for number, letter in enumerate(alphabet)} | {">Ċ": 256, ">ĊĊ": 257}
    core = Tokenizer(models.BPE(pieces, [(">", "Ċ"), (">Ċ", "Ċ")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>")
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    spec = trial.named("DatasetSpec", "burnish.data.dataset", "burnish.data.prepare:Preparation")
    template_of = trial.named("Template", "burnish.data.template", "burnish.data.templates")
    read = trial.named("read_rows", "burnish.data.read")
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>so</think>\n\ntwo"}]
    rows = read(trial.write("rows.jsonl", {"messages": turns}))
    dataset = spec.of(rows, tokenizer, template_of(template), max_length=200, train_on="answers").whole()
    [group] = dataset
    learned = tokenizer.decode(group.responses[0].tokens[group.responses[0].trainable].tolist())
    assert learned.startswith("two"), learned
