"""Each check of the model sees the fault that it is there for."""

from __future__ import annotations

import math
import shutil
import sys

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface

import burnish.checks.copies
import burnish.export.export
import burnish.runs.resume
import burnish.train.step
from burnish.builtin.tiny import make_tokenizer, write_untrained
from burnish.checks.laws import gradients_are_invariant, packed_equals_plain
from burnish.checks.resuming import same_bits_after_a_kill
from burnish.checks.saving import generation_stops, merged_is_the_same, saved_is_loaded
from burnish.checks.verdict import tolerance
from burnish.errors import ModelError
from burnish.layout import Segment
from burnish.model import segments
from burnish.model.attention import NAME
from burnish.types import LossOutput, LossTerm
from tests.checks.conftest import LORA


def blind(module, query, key, value, mask, *, scaling=None, **_):
    """Attention that ignores the layout: packed sequences see each other."""
    grouped = query.shape[1] != key.shape[1]
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped).transpose(1, 2), None


@pytest.mark.parametrize(("stage", "data"), [("sft", "turns.jsonl"), ("prefer", "pairs-of-turns.jsonl")])
@pytest.mark.parametrize("check", [packed_equals_plain, gradients_are_invariant])
def test_conversations_whose_earlier_turns_are_rewritten(make_subject, world, check, stage, data):
    """Groups with trees, and answers of several texts."""
    subject = make_subject(f"chat_template={world / 'forgetful.jinja'}", data=data, stage=stage)
    assert any(group.tree is not None or group.responses[0].forks for group in subject.groups)
    verdict = check(subject)
    assert verdict.passed, verdict


@pytest.mark.parametrize("settings", [(), LORA, ("dtype=bfloat16",)], ids=["full", "lora", "bfloat16"])
@pytest.mark.parametrize("check", [packed_equals_plain, gradients_are_invariant])
def test_packed_sequences_that_see_each_other(make_subject, monkeypatch, check, settings):
    subject = make_subject(*settings)
    subject.policy  # noqa: B018 (loading tries the attention, too; here it breaks afterwards)
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME + "sdpa", blind)
    verdict = check(subject)
    assert verdict.passed is False
    assert "do not train" in verdict.remedy


@pytest.mark.parametrize("check", [packed_equals_plain, gradients_are_invariant])
def test_responses_that_do_not_see_a_shared_prompt(make_subject, monkeypatch, check):
    subject = make_subject()
    assert subject.policy.share
    true_attend = segments._attend

    def forgetful(query, key, value, segment, two_way, extras):
        if segment.context:
            key, value = key[:, :, segment.context_length :], value[:, :, segment.context_length :]
            segment = Segment(segment.start, segment.length)
        return true_attend(query, key, value, segment, two_way, extras)

    monkeypatch.setattr(segments, "_attend", forgetful)
    assert check(subject).passed is False


def test_a_loss_that_divides_by_the_tokens_of_a_microbatch(make_subject, monkeypatch):
    """Not linear in its scores, or the backward itself would find out."""
    subject, true_evaluate = make_subject("loss_options.z_loss=0.1"), burnish.train.step.evaluate_loss

    def divided(policy, microbatch, loss, denominators):
        terms = {
            name: LossTerm(term.total / len(microbatch.targets), term.denominator)
            for name, term in true_evaluate(policy, microbatch, loss, denominators).terms.items()
        }
        return LossOutput(terms)

    monkeypatch.setattr(burnish.train.step, "evaluate_loss", divided)
    verdict = gradients_are_invariant(subject)
    assert verdict.passed is False
    assert "denominator" in verdict.remedy
    assert packed_equals_plain(subject).passed


def changing_weights(monkeypatch, change) -> None:
    """What is exported has other tensors than the model."""
    true_export = burnish.checks.copies.export

    def export(policy, folder, **options):
        true_export(policy, folder, **options)
        [file] = folder.glob("*.safetensors")
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    monkeypatch.setattr(burnish.checks.copies, "export", export)


def test_an_export_that_loses_a_tensor(make_subject, monkeypatch):
    def lose(tensors):
        return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj" not in name}

    changing_weights(monkeypatch, lose)
    verdict = saved_is_loaded(make_subject())
    assert verdict.passed is False
    assert "up_proj" in verdict.measured


def test_an_export_that_writes_an_adapter_without_its_trained_weights(make_subject, monkeypatch):
    def reset(tensors):
        return {name: 0 * tensor if "lora_B" in name else tensor for name, tensor in tensors.items()}

    changing_weights(monkeypatch, reset)
    assert saved_is_loaded(make_subject(*LORA)).passed is False


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows(make_subject, world, tmp_path):
    """It is refused before any check."""
    folder = shutil.copytree(world / "model", tmp_path / "model")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<unused>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="'<unused>' with the id 260; the model's embedding has 260 rows"):
        saved_is_loaded(make_subject(*LORA, model=folder))


def test_an_export_without_configuration(make_subject):
    subject = make_subject()
    (subject.saved.folder / "config.json").unlink()
    verdict = saved_is_loaded(subject)
    assert verdict.passed is False
    assert "cannot be loaded" in verdict.measured


def test_a_configuration_that_changes_what_is_computed(make_subject):
    """The same tensors, and other log-probabilities."""
    subject = make_subject()
    file = subject.saved.folder / "config.json"
    file.write_text(file.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 3.0'))
    assert '"rope_theta": 3.0' in file.read_text()
    verdict = saved_is_loaded(subject)
    assert verdict.passed is False
    assert "weights are the same" in verdict.measured


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merging_that_forgets_the_adapter(make_subject, monkeypatch, dtype):
    monkeypatch.setattr(peft.LoraModel, "merge_and_unload", lambda self: self.unload())
    verdict = merged_is_the_same(make_subject(*LORA, f"dtype={dtype}"))
    assert verdict.passed is False
    assert "unmerged" in verdict.remedy


def test_an_export_without_the_end_token(make_subject, monkeypatch):
    monkeypatch.setattr(burnish.export.export, "set_end_tokens", lambda model, ends: None)
    verdict = generation_stops(make_subject("chat_template=chatml", "add_tokens=template"))
    assert verdict.passed is False
    assert "continues after <|im_end|>" in verdict.measured
    assert "eos_token_id" in verdict.remedy


def test_resuming_without_the_optimizer_state(make_subject, monkeypatch):
    """Only this process, which resumes, drops it; the process that is killed does not."""
    true_restore = burnish.runs.resume.restore_checkpoint

    def restore(checkpoint, state):
        true_restore(checkpoint, state)
        for learner in state.learners:
            for library in learner.trainer.optimizer.libraries:
                library.state.clear()

    monkeypatch.setattr(burnish.runs.resume, "restore_checkpoint", restore)
    verdict = same_bits_after_a_kill(make_subject("learning_rate=1e-2"))
    assert verdict.passed is False
    assert "other weights" in verdict.measured


def test_a_run_that_ends_by_itself_instead_of_being_killed(make_subject, monkeypatch):
    failing = shutil.which("false")
    monkeypatch.setattr(sys, "executable", failing)
    verdict = same_bits_after_a_kill(make_subject())
    assert verdict.passed is False
    assert "with status 1" in verdict.measured


@pytest.mark.parametrize(("fault", "limit"), [(math.inf, 0.1), (0.3, 0.1), (0.08, 0.04), (0.01, 0.025)])
def test_the_limit_is_half_of_what_the_fault_would_change(fault, limit):
    assert tolerance(torch.bfloat16, fault) == pytest.approx(limit)


def test_an_undecidable_check_has_not_passed(make_subject, monkeypatch, tmp_path):
    """A model that looks at other tokens less than its type rounds."""
    write_untrained(tmp_path / "flat", hidden_size=32, layers=1)
    monkeypatch.setattr("burnish.checks.subject.EXACT_PARAMETERS", 0)
    verdict = packed_equals_plain(make_subject("dtype=bfloat16", model=tmp_path / "flat"))
    assert verdict.passed is None
    assert "too little to tell" in verdict.measured


def test_a_run_that_is_done_before_it_is_killed_proves_nothing(make_subject, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    assert same_bits_after_a_kill(make_subject()).passed is None
