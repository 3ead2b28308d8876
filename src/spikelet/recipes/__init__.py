"""Recipes: one YAML file per experiment, a schema that checks them, and the path from a recipe to its results."""
