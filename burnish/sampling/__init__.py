"""Samplers: prompts → groups of responses, with the log-probabilities that training computes again."""
