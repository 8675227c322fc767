"""Rewards: verifiers, instructions, user functions, reward models, and the contract that all have."""
