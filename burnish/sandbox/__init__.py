"""Runs untrusted programs at a declared level of isolation, and tests of programs whose verdict cannot be forged."""
