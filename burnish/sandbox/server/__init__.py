"""Fork server of the sandbox. Runs in an interpreter of its own that imports the standard library alone.

`main` serves requests: it forks a `supervisor` for each program, which confines a fork of itself (`guest`) and waits
for its end. Programs, tests and values go straight from the caller to the guest; the server reads none of them.
"""
