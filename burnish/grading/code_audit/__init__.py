"""Audit of code tasks: whether their solutions pass, and whether their tests reject wrong programs."""
