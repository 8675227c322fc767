"""Checks of what a run leaves: it loads elsewhere as it was, it merges, and it stops where it was taught to."""

from __future__ import annotations

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor

from burnish.checks.copies import AnyModel, Saved, difference, plain_logprobs
from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, Verdict, judged, tolerance, type_name
from burnish.model.adapters.initial import doubled, has_beginning
from burnish.watch.quiet import quiet_transformers

BEFORE_END = 3
"""Ordinary tokens that are written before the end token."""
AFTER_END = 5
"""Tokens that could follow it, if generation did not stop."""


def saved_is_loaded(subject: Subject) -> Verdict:
    """What the run would write, loaded by transformers or peft alone, has the same weights and log-probabilities."""
    saved = subject.saved
    try:
        model = saved.load()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        return Verdict(False, f"what is saved cannot be loaded: {reason}", REPORT)
    most = tolerance(saved.policy.causal_lm.dtype)
    changed = _changed(saved, model)
    found = difference(plain_logprobs(model, saved.groups), saved.expected)
    library = "peft" if isinstance(model, PeftModel) else "transformers"
    weights = f"{changed[0]} and {len(changed) - 1} others differ" if changed else "all trained weights are the same"
    return judged(
        found <= most and not changed,
        f"{library} loads it: {weights}, {found:.1e} nats, at most {most:g}",
        _remedy(saved),
    )


def _remedy(saved: Saved) -> str:
    tokens, rows = len(saved.policy.tokenizer), saved.policy.head.weight.shape[0]
    if tokens > rows:
        return (
            f"the tokenizer has {tokens} tokens and the model {rows} rows, and peft grows a model to its tokenizer "
            "when it loads an adapter: call resize_token_embeddings on the base model and save it again"
        )
    return f"the trained model would not be the one that is saved; do not train: {REPORT}"


def _changed(saved: Saved, model: AnyModel) -> list[str]:
    """Trained tensors that are not in the loaded model bit for bit."""
    loaded = model.state_dict()
    wanted = ((name, _as_saved(saved, name, p.detach())) for name, p in saved.policy.trained_parameters())
    return [name for name, tensor in wanted if name not in loaded or not _same(loaded[name], tensor)]


def _as_saved(saved: Saved, name: str, tensor: Tensor) -> Tensor:
    trained = saved.policy.model
    return doubled(name, tensor, trained) if has_beginning(trained) else tensor


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.to(second.dtype), second)


def merged_is_the_same(subject: Subject) -> Verdict:
    """The adapter merged into its base computes what base and adapter compute together."""
    if subject.recipe.adapter.kind == "full":
        return Verdict(None, "no adapter, so there is nothing to merge")
    if subject.recipe.adapter.kind == "qlora":
        return Verdict(None, "burnish merge adds this adapter to the unquantised base, which is another model")
    saved = subject.saved
    model = saved.load()
    assert isinstance(model, PeftModel), "a saved adapter is loaded by peft"
    apart = plain_logprobs(model, saved.groups)
    with model.disable_adapter():
        effect = difference(plain_logprobs(model, saved.groups), apart)
    merged = model.merge_and_unload()
    found = difference(plain_logprobs(merged, saved.groups), apart)
    dtype = saved.policy.causal_lm.dtype
    most = tolerance(dtype, effect)
    return judged(
        found <= most,
        f"{found:.1e} nats between merged and apart, at most {most:.2g} ({type_name(dtype)}); the adapter itself "
        f"changes {effect:.2g}",
        "serve the adapter beside its base, or merge into wider weights (dtype=float32): here merging loses too much",
    )


def generation_stops(subject: Subject) -> Verdict:
    """If the model writes an end token of its training, `generate` with the saved settings stops there."""
    saved, ends = subject.saved, sorted(subject.rows.report.end_tokens)
    if not ends:
        return Verdict(
            False,
            "no learned turn has an end token, so nothing can stop generation",
            "name a template that ends answers with a token, such as chat_template=plain",
        )
    model, known = saved.load(), saved.generation.eos_token_id
    stops = {known} if isinstance(known, int) else set(known or ())
    ordinary = next(token for token in range(len(stops) + len(ends) + 1) if token not in stops.union(ends))
    late = [end for end in ends if _written(saved, model, end, ordinary) != BEFORE_END + 1]
    names = ", ".join(str(subject.opener.reader.tokenizer.convert_ids_to_tokens(end)) for end in (late or ends))
    return judged(
        not late,
        f"generation {'goes on after' if late else 'stops at'} {names}; the saved settings end at {sorted(stops)}",
        f"add {late} to eos_token_id in generation_config.json of what is saved; {REPORT}",
    )


def _written(saved: Saved, model: AnyModel, end: int, ordinary: int) -> int:
    """How many tokens `generate` writes if the model writes ordinary ones, an end token, and ordinary ones again."""
    prompt = min((group.prompt for group in saved.groups), key=len)[None].to(model.device)
    script = Script([ordinary] * BEFORE_END + [end] + [ordinary] * AFTER_END, prompt.shape[1])
    with quiet_transformers():
        output = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=saved.generation,
            logits_processor=[script],
            max_new_tokens=len(script.tokens),
            do_sample=False,
            pad_token_id=end,
        )
    return int(output.shape[1] - prompt.shape[1])


class Script(LogitsProcessor):
    """Makes a model write given tokens."""

    def __init__(self, tokens: list[int], prompt_length: int) -> None:
        self.tokens = tokens
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[1, V] logits of which only the next token's is finite."""
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.prompt_length]] = 0.0
        return forced
