"""Comparison of Burnish with TRL on the same rows, models and optimizer; the command is `benchmarks/sft_peers.py`."""
