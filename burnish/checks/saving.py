"""Checks of a saved model: it loads elsewhere unchanged, its adapter merges, and generation stops at end tokens."""

from __future__ import annotations

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor

from burnish.checks.copies import AnyModel, Saved, difference, plain_logprobs
from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, CheckResult, checked, tolerance, type_name
from burnish.model.adapters.initial import doubled, has_beginning
from burnish.watch.quiet import quiet_transformers

BEFORE_END = 3
"""Number of ordinary tokens before the end token."""
AFTER_END = 5
"""Number of tokens that follow it if generation does not stop."""


def saved_is_loaded(subject: Subject) -> CheckResult:
    """The saved model, loaded by plain transformers or peft, has the same weights and log-probabilities."""
    saved = subject.saved
    try:
        model = saved.load()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        return CheckResult(False, f"the saved model cannot be loaded: {reason}", REPORT)
    limit = tolerance(saved.policy.causal_lm.dtype)
    changed = _changed(saved, model)
    deviation = difference(plain_logprobs(model, saved.groups, saved.policy.vision), saved.expected)
    library = "peft" if isinstance(model, PeftModel) else "transformers"
    weights = f"{changed[0]} and {len(changed) - 1} others differ" if changed else "all trained weights are the same"
    return checked(
        deviation <= limit and not changed,
        f"{library} loads it: {weights}, {deviation:.1e} nats, at most {limit:g}",
        _remedy(saved),
    )


def _remedy(saved: Saved) -> str:
    tokens, rows = len(saved.policy.tokenizer), saved.policy.head.weight.shape[0]
    if tokens > rows:
        return (
            f"the tokenizer has {tokens} tokens and the model {rows} rows, and peft grows a model to its tokenizer "
            "when it loads an adapter: call resize_token_embeddings on the base model and save it again"
        )
    return f"the saved model would differ from the trained one; do not train: {REPORT}"


def _changed(saved: Saved, model: AnyModel) -> list[str]:
    """Names of trained tensors that differ in the loaded model."""
    loaded = model.state_dict()
    expected = ((name, _as_saved(saved, name, p.detach())) for name, p in saved.policy.trained_parameters())
    return [name for name, tensor in expected if name not in loaded or not _same(loaded[name], tensor)]


def _as_saved(saved: Saved, name: str, tensor: Tensor) -> Tensor:
    trained = saved.policy.model
    return doubled(name, tensor, trained) if has_beginning(trained) else tensor


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.to(second.dtype), second)


def merged_is_the_same(subject: Subject) -> CheckResult:
    """The adapter merged into its base model computes the same as both unmerged."""
    if subject.recipe.adapter.kind == "full":
        return CheckResult(None, "there is no adapter to merge")
    if subject.recipe.adapter.kind == "qlora":
        return CheckResult(
            None, "burnish merge adds this adapter to the unquantized base model, which is another model"
        )
    saved = subject.saved
    model = saved.load()
    assert isinstance(model, PeftModel), "a saved adapter is loaded by peft"
    unmerged = plain_logprobs(model, saved.groups, saved.policy.vision)
    with model.disable_adapter():
        effect = difference(plain_logprobs(model, saved.groups, saved.policy.vision), unmerged)
    merged = model.merge_and_unload()
    error = difference(plain_logprobs(merged, saved.groups, saved.policy.vision), unmerged)
    dtype = saved.policy.causal_lm.dtype
    limit = tolerance(dtype, effect)
    return checked(
        error <= limit,
        f"{error:.1e} nats between merged and unmerged, at most {limit:.2g} ({type_name(dtype)}); the adapter itself "
        f"changes {effect:.2g}",
        "serve the adapter unmerged, or merge into weights of higher precision (dtype=float32): merging loses too much",
    )


def generation_stops(subject: Subject) -> CheckResult:
    """`generate` with the saved settings stops at an end token of the training data."""
    saved, ends = subject.saved, sorted(subject.rows.report.end_tokens)
    if not ends:
        return CheckResult(
            False,
            "no trained turn has an end token, so generation cannot stop",
            "name a template that ends answers with a token, such as chat_template=plain",
        )
    model, eos = saved.load(), saved.generation.eos_token_id
    stops = {eos} if isinstance(eos, int) else set(eos or ())
    ordinary = next(token for token in range(len(stops) + len(ends) + 1) if token not in stops.union(ends))
    ignored = [end for end in ends if _num_generated(saved, model, end, ordinary) != BEFORE_END + 1]
    names = ", ".join(str(subject.context.reader.tokenizer.convert_ids_to_tokens(end)) for end in (ignored or ends))
    return checked(
        not ignored,
        f"generation {'continues after' if ignored else 'stops at'} {names}; the saved settings end at {sorted(stops)}",
        f"add {ignored} to eos_token_id in generation_config.json of the saved model; {REPORT}",
    )


def _num_generated(saved: Saved, model: AnyModel, end: int, ordinary: int) -> int:
    """Number of tokens that `generate` returns if the model writes ordinary tokens, an end token, and ordinary ones."""
    prompt = min((group.prompt for group in saved.groups), key=len)[None].to(model.device)
    forced = ForcedTokens([ordinary] * BEFORE_END + [end] + [ordinary] * AFTER_END, prompt.shape[1])
    with quiet_transformers():
        output = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=saved.generation,
            logits_processor=[forced],
            max_new_tokens=len(forced.tokens),
            do_sample=False,
            pad_token_id=end,
        )
    return int(output.shape[1] - prompt.shape[1])


class ForcedTokens(LogitsProcessor):
    """Forces a model to generate given tokens."""

    def __init__(self, tokens: list[int], prompt_length: int) -> None:
        self.tokens = tokens
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[1, V] logits of which only that of the next token is finite."""
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.prompt_length]] = 0.0
        return forced
