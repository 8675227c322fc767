"""Instructions whose following can be verified by a program: the 25 kinds of IFEval (arXiv 2311.07911)."""
