"""Recipes, and values given on the command line: what `fedcmp train` does before anything else."""

import random
from pathlib import Path
from typing import Any

from fedcmp.config import Recipe, dump_recipe, load_recipe, read_dumped, read_toml
from fedcmp.config.keys import recipe_keys
from fedcmp.errors import UserError
from fedcmp.shipped import shipped_recipes
from fedcmp.study.recipe import load_study
from tools.fuzz.mutations import HOSTILE, Raw, damaged_bytes, damaged_tree, toml_text
from tools.fuzz.running import Fault, not_one_line

_STUDY = b"# a study's\n"  # begins an input that is a study's recipe
_OVERRIDE = b"\n#o "  # in front of a value of the command line, in an input's bytes
_OWN = {
    "run": {"name": "own", "methods": ["local", "fedavg"], "seed": 1},
    "data": {
        "format": "webdataset",
        "clients": [{"name": "a", "pairs": "a/shard-{0000..0009}.tar"}, {"name": "b", "pairs": ["b.tar", "c.tar"]}],
    },
    "scenario": {"kind": "given"},
    "federation": {"payload": "int8", "min_clients": 2, "on_bad_update": "drop", "deadline": 60.5},
    "method": {"fedavg": {"learning_rate": 0.1, "options": {}}, "mine": {"aggregator": "ties", "objective": "moon"}},
}


class Recipes:
    """One recipe, with up to three values of the command line."""

    name = "recipes"
    refusals: tuple[type[Exception], ...] = ()

    def __init__(self, work: Path) -> None:
        self._path = work / "recipe.toml"
        shipped = shipped_recipes().values()
        self._whole = [_OWN, *(read_toml(recipe.path) for recipe in shipped if recipe.verb == "train")]
        self._studies = [read_toml(recipe.path) for recipe in shipped if recipe.verb == "study"]
        self._keys = [key.place for key in recipe_keys(Recipe)]
        self._names = tuple(sorted({part for place in self._keys for part in place.split(".")}))

    def make(self, draw: random.Random) -> bytes:
        """Return a recipe with damaged values, keys or bytes."""
        is_study = draw.random() < 0.15
        tables = draw.choice(self._studies if is_study else self._whole)
        if draw.random() < 0.8:
            tables = damaged_tree(draw, tables, self._names)
        if draw.random() < 0.5:
            key = draw.choice(self._keys).split(".")
            tables = _with(tables, key, draw.choice(HOSTILE))
        data = (_STUDY if is_study else b"") + toml_text(tables, draw).encode("utf-8", "surrogatepass")
        if draw.random() < 0.25:
            data = damaged_bytes(draw, data)
        for _ in range(draw.choice((0, 0, 0, 1, 3))):
            value = draw.choice(HOSTILE)
            typed = value.text[:20_000] if isinstance(value, Raw) else str(value)
            place = draw.choice((*self._keys, *self._names, "run..name", "run", "", ".", "method.fedavg.options.x"))
            data += _OVERRIDE + f"{place}={typed}".encode("utf-8", "surrogatepass").replace(b"\n", b" ")
        return data

    def feed(self, data: bytes) -> bool:
        """Read it as a run does; one that is accepted is what a run's own copy of it says."""
        content, *overrides = data.split(_OVERRIDE)
        self._path.write_bytes(content)
        typed = [text.decode("utf-8", "surrogateescape") for text in overrides]
        if content.startswith(_STUDY):
            load_study(self._path, typed)
            return True
        recipe = load_recipe(self._path, typed)
        copied = self._path.with_name("copy.toml")
        copied.write_text(dump_recipe(recipe, versions={"fedcmp": "1"}), encoding="utf-8")
        again = read_dumped(copied)
        if again != recipe:
            raise Fault(f"its copy says something else: {again!r}, not {recipe!r}")
        try:
            load_recipe(self._path, typed, present=True)
        except UserError as error:
            if problem := not_one_line(str(error)):
                raise Fault(problem) from error
        return True


def _with(tables: dict[str, Any], key: list[str], value: Any) -> dict[str, Any]:
    """A copy of the tables with one key of a section set; of sections in lists nothing is."""
    section, name = key[0], key[-1]
    table = tables.get(section)
    return tables | {section: (table if isinstance(table, dict) else {}) | {name: value}}
