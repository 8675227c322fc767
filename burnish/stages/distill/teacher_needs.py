"""What loss and responses of a stage distill need of its teachers. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.stages.distill.groups import DistillLoss, ResponseSource, TeacherSettings


@dataclass(frozen=True, slots=True)
class TeacherNeeds:
    """Settings of a stage that a teacher has to fit."""

    loss: DistillLoss
    response_source: ResponseSource
    temperature: float
    """Divisor of the logits in the loss."""
    reward_coef: float
    """Weight of the policy gradient of rewards."""
    on_policy_fraction: float
    """Weight of the student's own responses."""

    def require_all(self, teachers: Sequence[TeacherSettings]) -> None:
        """Refuses teachers that the stage cannot use.

        Raises:
            ValueError: says which key, and what to change.
        """
        for number, teacher in enumerate(teachers):
            name = f"teacher.{number}" if len(teachers) > 1 else "teacher"
            self._require(teacher, name)
        if sum(teacher.kind == "student" for teacher in teachers) > 1:
            raise ValueError("two teachers are the student; name it once")
        [*others, last] = teachers
        if last.kind == "student" and not last.has_context and not others and not self.reward_coef:
            raise ValueError(
                "teacher: a moving average of the student is the student itself at the beginning, so that it teaches "
                "nothing, and neither changes; set context or context_column, or a reward with reward_coef"
            )
        if self.loss == "uld" and len(teachers) > 1:
            raise ValueError("loss: uld takes one teacher; name one, or set loss: policy_gradient")
        if len(teachers) > 1 and self.response_source != "student":
            raise ValueError("several teachers need response_source: student; train a stage for each teacher")
        if any(not teacher.where for teacher in teachers[:-1]):
            raise ValueError("a teacher without `where` has all rows, so that those after it have none; put it last")

    def _require(self, teacher: TeacherSettings, name: str) -> None:
        off_policy = self.response_source != "student"
        if not teacher.is_local and self.loss in ("full", "uld"):
            raise ValueError(
                f"{name}: {teacher.kind} gives probabilities of some tokens, and loss: {self.loss} needs those of all; "
                "set loss: top_k"
            )
        if teacher.kind == "server" and self.temperature != 1:
            raise ValueError(
                f"{name}.url: a server gives log-probabilities at the temperature 1, and here it is "
                f"{self.temperature:g}; set temperature: 1"
                + (", or sampling.temperature: 1" if self.loss == "policy_gradient" else "")
            )
        if teacher.tables is not None and (not off_policy or self.loss != "top_k"):
            raise ValueError(
                f"{name}.tables has probabilities of given responses: it needs response_source: data or teacher, and "
                "loss: top_k"
            )
        if teacher.kind in ("server", "tables") and self.response_source == "teacher":
            raise ValueError(
                f"{name}: with response_source: teacher a model in this process writes the responses; name its folder"
            )
        if off_policy and (teacher.has_context or teacher.kind == "student"):
            raise ValueError(
                f"{name}: self-distillation and privileged context need response_source: student, and here it is "
                f"{self.response_source}"
            )
        if teacher.where and (off_policy or self.on_policy_fraction < 1):
            given = f"response_source: {self.response_source}" if off_policy else "on_policy_fraction below 1"
            raise ValueError(
                f"{name}.where chooses among teachers of the student's responses, and with {given} one teacher has all "
                "rows; remove it, and name data with these rows alone"
            )
