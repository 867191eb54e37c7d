"""Downloads of public data sets -> data folders."""

from aeflow.data.prepare.prepare import Prepared, prepare, terms
from aeflow.data.prepare.recipe import Recipe, Release, summary
from aeflow.data.prepare.sets import RECIPES

__all__ = ["RECIPES", "Prepared", "Recipe", "Release", "prepare", "summary", "terms"]
