"""Groups of keys of a stage distill: teachers, the policy gradient, evaluation. Imports no torch.

Contradictions within a group are refused here, others in `settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.losses.policy.settings import Old, PolicyGradientOptions, PpoClip
from burnish.settings.numbers import BelowOne, Positive
from burnish.stages.on_policy.policy_loss import PolicyLossSettings
from burnish.stages.on_policy.settings import RlCheckpoints, RlEvaluation

STUDENT = "student"
"""Value of teacher.model: the student itself, with other weights or with privileged context."""
DistillLoss = Literal["top_k", "full", "policy_gradient", "uld", "cross_entropy"]
ResponseSource = Literal["student", "teacher", "data"]
TeacherKind = Literal["model", "student", "server", "tables"]


class ServerOptions(Settings):
    """Requests to a server with the teacher."""

    api_key_variable: str | None = None
    """Name of the environment variable with the API key; null: none is sent."""
    concurrency: Positive = 8
    """Number of requests at the same time."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that one request may take, after which it is repeated."""
    deadline: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that the requests of one batch may take with all repetitions, after which the run ends."""


class TeacherSettings(Settings):
    """A teacher: a model (a run, a folder, a hub name, ``stage:NAME``), the student itself, a server, or tables."""

    model: str | None = None
    """Model: a run, a folder, a hub name or stage:NAME; student: the student itself, which needs ema_decay, context or
    context_column; with url: its name on the server. null: none (tables or a server)."""
    url: str | None = None
    """Address of a server that returns log-probabilities of given tokens (prompt_logprobs of vLLM), such as
    http://localhost:8000; null: no server."""
    server: ServerOptions = ServerOptions()
    """Requests to the server."""
    tables: str | None = None
    """Folder with the teacher's top-k probabilities of all rows: read if it is there, otherwise written; with a model,
    a probe of it is compared first. null: the cache."""
    where: dict[str, str | int | bool] = Field(default_factory=dict)
    """Rows of this teacher, by their columns, such as {source: math}; {}: all that no teacher before it has."""
    context: str | None = None
    """Privileged context: text that the teacher reads before the prompt and the student does not; null: none."""
    context_column: str | None = None
    """Column with the privileged context of each row (reference: the answer); null: none."""
    ema_decay: BelowOne | None = None
    """With model: student, decay of the moving average of the student's weights that teaches; 0: the present weights.
    null: the weights with which the stage began."""
    placement: Literal["resident", "in_turns"] = "resident"
    """Place of the teacher's weights: resident on the device, or in_turns (loaded for each batch of responses and freed
    afterwards)."""

    @model_validator(mode="after")
    def _one_source(self) -> TeacherSettings:
        if self.model is None and self.url is None and self.tables is None:
            raise ValueError("a teacher has a model, a url, or tables")
        if self.ema_decay is not None and self.kind != "student":
            raise ValueError(
                f"teacher.ema_decay is of a teacher that is the student's moving average, and model is {self.model}; "
                "set model: student, or remove it"
            )
        if self.kind == "student" and self.ema_decay is None and not self.has_context:
            raise ValueError(
                "teacher.model: student needs something that tells teacher and student apart: ema_decay (a moving "
                "average of its weights), context or context_column (privileged context in the prompt)"
            )
        if self.ema_decay == 0 and not self.has_context:
            raise ValueError(
                "teacher.ema_decay: 0 is the student's present weights, which teach nothing without context; raise it, "
                "or set context or context_column"
            )
        if self.placement == "in_turns" and self.kind != "model":
            raise ValueError("teacher.placement: in_turns is about a model that is loaded; remove it")
        if self.url is None and self.server != ServerOptions():
            raise ValueError("teacher.server has no effect without teacher.url; remove it")
        if self.url is not None and self.tables is not None:
            raise ValueError("a teacher has a url or tables, not both; write the tables with the model itself")
        return self

    @property
    def kind(self) -> TeacherKind:
        """What it is."""
        if self.url is not None:
            return "server"
        if self.model is None:
            return "tables"
        return "student" if self.model == STUDENT else "model"

    @property
    def is_local(self) -> bool:
        """Whether its distributions are computed in this process."""
        return self.kind in ("model", "student")

    @property
    def has_context(self) -> bool:
        """Whether it reads more than the student."""
        return self.context is not None or self.context_column is not None


def _named(value: Any) -> Any:
    """A teacher by its name: ``runs/teacher``, or the address of a server."""
    if isinstance(value, str):
        return {"url": value} if value.startswith(("http://", "https://")) else {"model": value}
    return value


OneTeacher = Annotated[TeacherSettings, BeforeValidator(_named, json_schema_input_type=str | TeacherSettings)]


class DistillPolicyGradient(PolicyLossSettings):
    """Settings of the policy gradient, of loss: policy_gradient and of rewards."""

    clip_low: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Clip range below 1, with several updates per batch: the ratio counts down to 1 - clip_low; null: 0.2."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """Clip range above 1, with several updates per batch: the ratio counts up to 1 + clip_high; null: 0.2."""

    @property
    def clip(self) -> PpoClip:
        """The clip with its defaults resolved."""
        bounds = {name: getattr(self, name) for name in ("clip_low", "clip_high")}
        return PpoClip(**{name: value for name, value in bounds.items() if value is not None})

    def options(self, old: Old, max_new_tokens: int) -> PolicyGradientOptions:
        """The policy gradient with this denominator of its ratio, of responses of at most this length."""
        aggregation = self.loss_aggregation or "token"
        return PolicyGradientOptions(
            clip=self.clip,
            old_logprobs=old,
            loss_aggregation=aggregation,
            fixed_length=(self.fixed_length or max_new_tokens) if aggregation == "fixed" else None,
            importance_correction=self.correction("token"),
            entropy_coef=self.entropy_coef,
        )


class DistillEvaluation(RlEvaluation):
    """Evaluation on held-out prompts; needs eval_data or eval_share."""

    teacher_prompts: Annotated[int, Field(ge=0)] = 64
    """Number of held-out prompts, drawn by the seed, on whose sampled responses student and teacher are compared at
    every evaluation: eval/teacher_kl, eval/teacher_agreement, eval/student_entropy; 0: none."""
    teacher_accuracy: bool = True
    """Grades greedy responses of the teacher too, once: eval/teacher_reward, eval/teacher_accuracy; needs a reward and
    a teacher that is a model."""


class DistillCheckpoints(RlCheckpoints):
    """Checkpoints that are kept, and the weights of the final model."""

    best_metric: str = "teacher_kl"
    """Metric of early_stopping and keep_best: teacher_kl (KL divergence from the teacher on held-out prompts; lower is
    better), reward, accuracy, or reward/NAME."""
