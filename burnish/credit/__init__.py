"""How much each token counts: verdicts → advantages. Pure functions of numbers; nothing here knows a model."""

from burnish.credit.baseline import Baseline, group_mean, leave_one_out, no_baseline
from burnish.credit.combine import Combination, combined, contributions
from burnish.credit.credit import Credit, Credited, credit
from burnish.credit.pairing import Form, Pairing
from burnish.credit.rule import Rule
from burnish.credit.scale import Scale, scaled
from burnish.credit.shaping import kl_shaped

__all__ = [
    "Baseline",
    "Combination",
    "Credit",
    "Credited",
    "Form",
    "Pairing",
    "Rule",
    "Scale",
    "combined",
    "contributions",
    "credit",
    "group_mean",
    "kl_shaped",
    "leave_one_out",
    "no_baseline",
    "scaled",
]
