"""Losses on sampled responses with advantages: one family whose members are settings."""
