"""A recipe: a model, an adapter and stages, read from a file, from flags and from overrides.

Needs no torch, transformers or peft, and neither do the settings of the stages: a mistyped key is refused at once.
"""

from burnish.recipe.read import ResolvedRecipe, read_recipe, stage_names, stage_recipe
from burnish.recipe.recipe import Recipe, Stage

__all__ = ["Recipe", "ResolvedRecipe", "Stage", "read_recipe", "stage_names", "stage_recipe"]
