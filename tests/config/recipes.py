"""A recipe to begin with, and how the tests load one."""

from fedcmp.config import load_recipe

MINIMAL = "[data]\nnum_pairs = 100\n"


def load(tmp_path, text, overrides=None):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return load_recipe(path, overrides)
