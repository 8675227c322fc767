"""Reward for programs: extraction of the program from a response, tests from rows, grading in a sandbox."""
