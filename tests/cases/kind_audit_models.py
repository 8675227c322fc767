"""Faults of computation in models and adapters that the audit found."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from .trial import Trial, case

ROWS = [{"prompt": f"{number}+1?", "chosen": str(number + 1), "rejected": "no"} for number in range(8)]


@case("audit-06-soft-update")
def a_soft_update_in_bfloat16_moves_the_reference(trial: Trial) -> None:
    """40 moves by 5 % are 87 % of the way; rounded to bfloat16 after each they are 1 %."""
    import torch

    load_policy = trial.named("load_policy", "burnish.model.load")
    snapshot_of = trial.named("Snapshot", "burnish.model.snapshot", "burnish.model.earlier:EarlierPolicy")
    policy = load_policy(trial.model("chatml"), dtype="bfloat16")
    before = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}
    reference = snapshot_of(policy)
    with torch.no_grad():
        for _, parameter in policy.trained_parameters():
            parameter.mul_(1.02)
    for _ in range(40):
        reference.follow(0.05)
    with reference.in_place() as earlier:
        after = {name: parameter.detach().clone() for name, parameter in earlier.trained_parameters()}
    now = {name: parameter.detach() for name, parameter in policy.trained_parameters() if parameter.ndim == 2}
    ways = {name: now[name].double() - before[name].double() for name in now}
    moved = sum(float(((after[name].double() - before[name].double()) * way).sum()) for name, way in ways.items())
    share = moved / sum(float((way * way).sum()) for way in ways.values())
    assert abs(share - (1 - 0.95**40)) < 0.02, f"{share:.3f} of the way"


@case("audit-08-int8-on-a-cpu")
def int8_on_a_cpu_trains_the_function_that_is_evaluated(trial: Trial) -> None:
    import torch

    load_policy = trial.named("load_policy", "burnish.model.load")
    settings = trial.named("AdapterSettings", "burnish.model.adapters.settings")
    quantization = trial.named("Quantization", "burnish.model.settings", "burnish.model.quantised:Quantisation")
    model = _of_confident_logits(trial)
    given = {"quantization" if "ization" in quantization.__name__ else "quantisation": quantization(bits=8)}
    policy = load_policy(model, adapter=settings(rank=4, alpha=8.0), device=torch.device("cpu"), **given)
    ids = torch.randint(256, (1, 64), generator=torch.Generator().manual_seed(0))
    found = []
    for mode in (True, False, True):
        policy.model.train(mode)
        with torch.no_grad(), _plainly(trial, policy):
            found.append(policy.model(input_ids=ids, use_cache=False).logits.log_softmax(-1))
    assert torch.equal(found[0], found[1]), f"differ by {float((found[0] - found[1]).abs().mean()):.3g} nats"
    assert torch.equal(found[0], found[2])


@case("audit-10-pissa-dropout")
def pissa_and_olora_with_dropout_are_refused(trial: Trial) -> None:
    data = trial.write("rows.jsonl", *({"prompt": row["prompt"], "completion": row["chosen"]} for row in ROWS))
    for init in ("pissa", "olora"):
        words = ("--data", data, "--output", init, "max_steps=1", f"adapter.init={init}", "adapter.dropout=0.1")
        trial.burnish("sft", "--model", trial.model("chatml"), *words, "adapter.kind=lora", "adapter.rank=4").refused(
            "adapter.dropout", init
        )


@case("audit-13-rank-stabilised-alphas")
def rank_stabilised_pissa_is_continued_for_all_alphas(trial: Trial) -> None:
    import json

    from peft import LoraConfig

    double = trial.named("_double_ranks", "burnish.model.adapters.initial")
    undoubled = trial.named("undoubled", "burnish.model.adapters.initial")
    path = trial.folder / "adapter_config.json"
    changed = []
    for alpha in range(1, 129):
        patterns: Mapping[str, Any] = {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"up_proj": float(alpha)}}
        with warnings.catch_warnings(action="ignore"):  # of peft's own conversion, which is not used
            config = LoraConfig(r=4, lora_alpha=float(alpha), use_rslora=True, **patterns)
        path.write_text(json.dumps(config.to_dict(), default=list))
        double(path)
        with warnings.catch_warnings(action="ignore"):
            again = undoubled(LoraConfig.from_pretrained(trial.folder), "pissa")
        if (again.lora_alpha, again.alpha_pattern) != (config.lora_alpha, config.alpha_pattern):
            changed.append(alpha)
    assert not changed, f"alphas {changed} come back changed"


@case("audit-12-company")
def a_response_depends_on_company_by_rounding_alone(trial: Trial) -> None:
    """The documentation says which independence holds to the bit, and which up to rounding."""
    import importlib

    for name in ("burnish.sampling.uniform", "burnish.sampling.base"):
        text = importlib.import_module(name).__doc__ or ""
        assert "rounding" in text, name


def _of_confident_logits(trial: Trial) -> str:
    """A model whose logits depend on its weights strongly enough that rounding of inputs shows."""
    import torch
    from safetensors.torch import load_file, save_file

    target = trial.folder / "confident"
    if not target.exists():
        import shutil

        shutil.copytree(trial.model("chatml"), target)
        generator, path = torch.Generator().manual_seed(5), target / "model.safetensors"
        tensors = {
            name: torch.randn(tensor.shape, generator=generator) * 0.35 if tensor.ndim == 2 else tensor
            for name, tensor in load_file(path).items()
        }
        save_file(tensors, path, metadata={"format": "pt"})
    return str(target)


def _plainly(trial: Trial, policy: Any) -> Any:
    return trial.named("plain_attention", "burnish.model.attention")(policy.causal_lm)
