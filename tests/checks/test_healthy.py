"""A healthy model passes every check that applies to it; what does not apply is not called passed."""

from __future__ import annotations

import pytest

from burnish.checks.suite import OF_MODEL, OF_ROWS, Check
from burnish.checks.verdict import CheckResult
from burnish.errors import DataError
from tests.checks.conftest import LORA

QUICK = tuple(check for check in OF_MODEL if check.name != "kill, resume")
CASES = {
    "full": (),
    "lora": LORA,
    "lora-dropout": (*LORA, "adapter.dropout=0.3"),
    "lora-tokens": (*LORA, "chat_template=chatml", "add_tokens=template"),
    "bfloat16": (*LORA, "dtype=bfloat16"),
    "losses": (
        "loss_options.label_smoothing=0.1",
        "loss_options.z_loss=0.01",
        "tokens_per_microbatch=90",
        "gradient_checkpointing=true",
    ),
    "everything": ("train_on=everything",),
    "cut": ("max_length=56", "overlong=truncate"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_check_passes_or_says_why_it_does_not_apply(make_subject, case):
    subject = make_subject(*CASES[case])
    verdicts = {check.name: check.verdict(subject) for check in (*OF_ROWS, *QUICK)}
    assert [(name, verdict) for name, verdict in verdicts.items() if verdict.passed is False] == []
    nothing = {"begin tokens"} | (set() if LORA[0] in CASES[case] else {"merge"})
    assert {name for name, verdict in verdicts.items() if verdict.passed is None} == nothing


def test_a_check_changes_nothing(make_subject):
    """The policy that was loaded has the same weights and the same tokenizer afterwards."""
    subject = make_subject(*LORA)
    before = {name: value.clone() for name, value in subject.policy.model.state_dict().items()}
    template = subject.policy.tokenizer.chat_template
    for check in QUICK:
        check.verdict(subject)
    after = subject.policy.model.state_dict()
    assert all(bool((after[name] == value).all()) for name, value in before.items())
    assert subject.policy.tokenizer.chat_template == template


def test_the_tried_groups_are_bounded_and_have_the_shortest(make_subject):
    subject = make_subject()
    lengths = [group.num_tokens for group in subject.groups]
    assert sum(lengths) <= 1024
    assert min(lengths) == subject.rows.lengths.min()
    assert max(lengths) == subject.rows.lengths.max()
    assert len(subject.shared[-1].responses) == 2


def test_a_check_that_breaks_down_has_failed(make_subject):
    def broken(_subject: object) -> CheckResult:
        raise RuntimeError("the kernel\n is missing")

    verdict = Check("some law", broken).verdict(make_subject())
    assert (verdict.passed, verdict.measured) == (False, "error: RuntimeError: the kernel is missing")
    assert "report" in verdict.remedy


def test_a_mistake_of_the_user_ends_the_checks(make_subject):
    subject = make_subject("max_length=10")
    with pytest.raises(DataError, match="overlong=drop"):
        OF_ROWS[0].verdict(subject)
