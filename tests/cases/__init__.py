"""Situations from public bug reports, and faults of computation that an audit found: each ends rightly.

A case is a function that writes its files, runs commands or computes, and asserts (`trial.py`). The modules are kinds:
what is mended is the kind, so each has neighbors of the reported case. ``python -m scripts.cases COMMIT`` runs them in
the code of a commit and in the working tree, and counts. So no module here imports burnish: `Trial.named` does.
"""
