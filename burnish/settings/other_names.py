"""Names of values, stages and commands in other tools, each with what to write here. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "bf16": "bfloat16",
        "fp32": "float32",
        "float": "float32",
        "fp64": "float64",
        "double": "float64",
        "fp16": "bfloat16: float16 is not trained, since its gradients underflow without loss scaling",
        "float16": "bfloat16: float16 is not trained, since its gradients underflow without loss scaling",
        "half": "bfloat16: float16 is not trained, since its gradients underflow without loss scaling",
    }
)
"""Value of dtype → ours."""
ADAPTERS: Mapping[str, str] = MappingProxyType(
    {
        "none": "full",
        "freeze": "full, with adapter.freeze: patterns of frozen weights",
        "dora": "lora, with adapter.dora: true",
        "qdora": "qlora, with adapter.dora: true",
        "rslora": "lora, with adapter.rslora: true",
        "pissa": "lora, with adapter.init: pissa",
        "olora": "lora, with adapter.init: olora",
        "loraplus": "lora, with adapter.loraplus_ratio: 16",
        "lora+": "lora, with adapter.loraplus_ratio: 16",
        "8bit": "qlora, with adapter.bits: 8",
        "4bit": "qlora",
    }
)
"""Value of adapter.kind → ours."""
ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "ppo": "a stage of its own: ppo, with a critic (reinforce_pp learns without one)",
        "reinforce": "reinforce_pp, or rloo, which compares the responses to a prompt",
        "reinforce++": "reinforce_pp",
        "reinforce_plus_plus": "reinforce_pp",
        "drgrpo": "dr_grpo",
        "dr-grpo": "dr_grpo",
        "bnpo": "grpo, with policy_gradient.loss_aggregation: token",
        "dpo": "online_dpo (responses are sampled), or a stage prefer (pairs of a file)",
    }
)
"""Value of algorithm → ours."""

LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "sigmoid": "dpo",
        "sigmoid_norm": "dpo_norm",
        "robust": "robust_dpo",
        "exo_pair": "exo",
        "nca_pair": "nca",
        "bco_pair": "bco",
        "sppo_hard": "sppo",
        "aot_pair": "aot",
        "kto_pair": "kto",
        "apo_zero_pair": "apo_zero",
    }
)
"""Value of loss in a stage prefer → ours."""

PREFERENCES = ("dpo", "ipo", "kto", "orpo", "simpo", "cpo", "bco", "apo_zero")
POLICY_GRADIENTS = ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "gmpo", "rloo", "gdpo")
STAGES: Mapping[str, str] = MappingProxyType(
    {
        **{name: f"stage prefer with loss: {name}" for name in PREFERENCES},
        "apo": "stage prefer with loss: apo_zero",
        **{name: f"stage rl with algorithm: {name}" for name in POLICY_GRADIENTS},
        "online_dpo": "stage rl with algorithm: online_dpo",
        "reinforce": "stage rl with algorithm: reinforce_pp",
        "rlhf": "stage ppo with reward: reward_model",
        "rlvr": "stage rl with reward: math",
        "rm": "stage reward",
        "reward_model": "stage reward",
        "reward_modeling": "stage reward",
        "prm": "stage reward with loss: step_cross_entropy",
        "preference": "stage prefer",
        "pt": "stage sft: rows of plain text are trained whole (continued pre-training)",
        "cpt": "stage sft: rows of plain text are trained whole (continued pre-training)",
        "pretrain": "stage sft: rows of plain text are trained whole (continued pre-training)",
        "finetune": "stage sft",
        "fine_tune": "stage sft",
        "lora": "stage sft with adapter: lora",
        "qlora": "stage sft with adapter: qlora",
        **dict.fromkeys(("distillation", "opd", "on_policy_distillation", "minillm"), "stage distill"),
        **dict.fromkeys(("gkd", "generalized_knowledge_distillation"), "stage distill with divergence: jsd"),
        **dict.fromkeys(("kd", "knowledge_distillation"), "stage distill with response_source: data"),
        **dict.fromkeys(("seqkd", "seq_kd", "sequence_kd"), "stage distill with response_source: teacher"),
        **dict.fromkeys(("gold", "uld"), "stage distill with loss: uld"),
        **dict.fromkeys(
            ("sdft", "sdpo", "opsd", "self_distillation"),
            "stage distill with teacher: {model: student, context: …}",
        ),
    }
)
"""Method, as other tools name it → what it is here."""
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "train": "write burnish sft, prefer, reward, rl, ppo or distill for one stage, or burnish run recipe.yaml",
        "infer": "write burnish chat or burnish generate",
        "inference": "write burnish chat or burnish generate",
        "predict": "write burnish generate",
        "sample": "write burnish generate",
        "rollout": "write burnish generate",
        "test": "write burnish eval",
        "evaluate": "write burnish eval",
        "benchmark": "write burnish eval",
        "merge_lora": "write burnish merge",
        "merge_sharded_fsdp_weights": "not needed: a run folder has the whole model",
        "api": "write burnish serve",
        "deploy": "write burnish serve",
        "webchat": "write burnish chat",
        "web_ui": "not available: there is no web interface; burnish report writes a page of a run",
        "webui": "not available: there is no web interface; burnish report writes a page of a run",
        "preprocess": "not needed: rows are tokenized while training begins; burnish data view shows them",
        "tokenize": "not needed: rows are tokenized while training begins; burnish data view shows them",
        "push": "write burnish export … --push owner/name",
        "upload": "write burnish export … --push owner/name",
        "resume": "run the same command again: it resumes",
        "config": "write burnish keys, which lists all settings, or burnish schema",
        "settings": "write burnish keys",
        "env": "see report.html or environment.json of a run; burnish --version prints the version",
        "launch": "write burnish run recipe.yaml --nproc N, or accelerate launch -m burnish run recipe.yaml",
    }
)
"""Command of other tools → ours."""


def stage_remedy(name: str) -> str | None:
    """What to write for a method that other tools have as a stage or a trainer; None: it is unknown."""
    ours = STAGES.get(name.lower().replace("-", "_"))
    return f"write the {ours}" if ours and ours.startswith("stage") else ours


def command_remedy(name: str) -> str | None:
    """What to type for a command that Burnish does not have; None: it is unknown."""
    key = name.lower().replace("-", "_")
    if key in COMMANDS:
        return COMMANDS[key]
    ours = STAGES.get(key)
    return f"write burnish {_as_command(ours)}" if ours and ours.startswith("stage") else ours


def _as_command(ours: str) -> str:
    """``stage prefer with loss: dpo`` → ``prefer … loss=dpo``."""
    stage, _, setting = ours.partition(":")[0].removeprefix("stage ").partition(" with ")
    return f"{stage} … {setting}={ours.partition(': ')[2]}" if setting else stage
