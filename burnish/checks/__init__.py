"""Checks of a recipe with its own model and data before a run (`burnish check`)."""
