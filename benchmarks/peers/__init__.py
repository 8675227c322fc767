"""Burnish beside its peers on the same rows, models and optimiser; `benchmarks/sft_peers.py` is the command."""
