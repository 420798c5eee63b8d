"""docs/reference.md says what the code says."""

import difflib
import runpy
from pathlib import Path

import typer

from fedcmp.cli.main import app
from fedcmp.config import Recipe
from fedcmp.config.keys import recipe_keys
from fedcmp.study.recipe import StudyRecipe
from tests.cli.test_cli import leaves

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_current():
    made = runpy.run_path(str(DOCS / "write_reference.py"))["reference"]()
    there = (DOCS / "reference.md").read_text(encoding="utf-8")
    changes = list(difflib.unified_diff(there.splitlines(), made.splitlines(), "docs/reference.md", "the code", n=0))
    assert not changes, "\n".join([*changes[:20], "write it again: make reference"])


def test_every_verb_and_every_key_is_in_it():
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    for words, verb in leaves(typer.main.get_command(app)).items():
        section = page.partition(f"### fedcmp {' '.join(words)}\n")[2].partition("\n### ")[0]
        assert section, words
        for parameter in verb.params:
            shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
            assert shown in section, (words, shown)
    for key in recipe_keys(Recipe):
        assert f"| `{key.place.rpartition('.')[2]}` |" in page


def test_every_key_has_a_meaning():
    assert [key.place for recipe in (Recipe, StudyRecipe) for key in recipe_keys(recipe) if not key.meaning] == []
