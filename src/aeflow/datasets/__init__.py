"""Recipes that turn downloads of public data sets into data folders; only api and cli may import them."""

from aeflow.datasets.catalog import RECIPES
from aeflow.datasets.prepare import Prepared, prepare, terms
from aeflow.datasets.recipe import Recipe, Release, summary

__all__ = ["RECIPES", "Prepared", "Recipe", "Release", "prepare", "summary", "terms"]
