"""What is to be learned by trying: prompts with verifiers, and the processes that judge answers.

A row of data (`burnish.data.records.Task`) and a response make an `Answer` (`rows`); a `Judge` has each `Reward` of a
recipe (`read_rewards`) say a number or a typed failure of it, and combines them into a `Verdict`. A source of rollouts
calls the judge, learns from `Verdict.reward` where it is a number, and counts the rest.
"""
