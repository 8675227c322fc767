"""Running rewards: worker processes with a deadline, a cache of verdicts, and a self-test."""
