"""Evaluators: held-out loss, generation accuracy, preference and reward-model accuracy, pass@k, and chat."""
