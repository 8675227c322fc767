"""Comparison of short trainings of two versions of Burnish, bit for bit."""
