"""How good the model is."""

from burnish.evaluate.exam import Exam
from burnish.evaluate.examiner import Examiner, Findings, Sample
from burnish.evaluate.held_out import HeldOutLoss, held_out_loss

__all__ = ["Exam", "Examiner", "Findings", "HeldOutLoss", "Sample", "held_out_loss"]
