"""Rewards for reinforcement learning: verifiers and user functions, run in worker processes, and reward models.

A row of data (`burnish.data.records.Task`) and a response make a `ResponseView` (`response_views`). A `RewardRunner`
grades it with each `Reward` of a recipe (`read_rewards`), which gives a number or a typed failure, and combines the
outcomes into a `Verdict`. A source of rollouts calls the runner, trains on `Verdict.reward` where it is a number, and
counts the rest.
"""
