"""The typed recipe: every key a run has, with its default, its check and its meaning.

A recipe is a TOML file; unknown keys, wrong types (`rounds = "3"`) and impossible combinations are refused with the
key's name. Values given on the command line (`-o training.learning_rate=0.003`) replace those of the file.
"""

from fedcmp.config.mistakes import first_mistake
from fedcmp.config.reading import dump_recipe, from_folder, load_recipe, override, parse_recipe, read_dumped, read_toml
from fedcmp.config.recipe import Recipe
from fedcmp.config.sections import Method

__all__ = [
    "Method",
    "Recipe",
    "dump_recipe",
    "first_mistake",
    "from_folder",
    "load_recipe",
    "override",
    "parse_recipe",
    "read_dumped",
    "read_toml",
]
