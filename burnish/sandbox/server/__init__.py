"""Fork server of the sandbox. Runs in an interpreter of its own that imports the standard library alone.

`main` serves requests: `supervisor` forks a process for each program, which confines itself (`guest`), and watches it.
Programs, tests and values go straight from the caller to the guest; the server reads none of them.
"""
