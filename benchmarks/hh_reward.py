"""Reward models of HH-RLHF with a small real model: pair accuracy on held-out dialogs before and after, by seed.

    python benchmarks/hh_reward.py MODEL TRAIN EVAL [--seeds 3] [--steps 200] [--measured 500] [key=value ...]

Arguments and files are those of `hh_prefer`. Before the first step the value head is random (drawn by the seed), so
accuracy is chance. Prints a Markdown table: accuracy and length-controlled accuracy, with 95 % intervals.
"""

from __future__ import annotations

from hh_prefer import USUAL, compare

import burnish

MEASURES = {"pairs right": "pair_accuracy", "length controlled": "pair_accuracy_length_controlled"}


def main() -> None:
    compare(burnish.reward, MEASURES, {**USUAL, "learning_rate": 1e-3, "center_coef": 0.01}, __doc__.splitlines()[0])


if __name__ == "__main__":
    main()
