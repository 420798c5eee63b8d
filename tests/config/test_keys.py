from typing import Literal

import pytest
from pydantic import BaseModel, Field

from fedcmp.config import Recipe
from fedcmp.config.keys import find_keys, method_options, recipe_keys, sections, toml_value
from fedcmp.errors import UserError


class Inner(BaseModel):
    """Explain the inner one.

    Attributes:
        size: no part of the first line.
    """

    size: int = Field(3, ge=1, description="how\n  large")
    kind: Literal["a", "b"] = "a"


class Outer(BaseModel):
    one: Inner
    named: dict[str, Inner] = {}
    several: list[Inner] = []
    plain: float | None = None
    words: list[str] = ["x"]
    must: str = Field(min_length=1)


def test_every_key_has_its_place_type_default_and_meaning():
    keys = {key.place: key for key in recipe_keys(Outer)}
    assert list(keys) == [
        *(f"{prefix}.{name}" for prefix in ("one", "named.NAME", "several[]") for name in ("size", "kind")),
        "plain",
        "words",
        "must",
    ]
    size = keys["one.size"]
    assert (size.type, size.default, size.required, size.meaning) == (
        "whole number, at least 1",
        "3",
        False,
        "how large",
    )
    assert keys["named.NAME.kind"].type == '"a", "b"'
    assert keys["named.NAME.kind"].section == "named.NAME"
    assert (keys["plain"].type, keys["plain"].default) == ("number", "")
    assert (keys["words"].type, keys["words"].default) == ("list of text", '["x"]')
    assert (keys["must"].type, keys["must"].required) == ("text, not empty", True)


def test_sections_carry_their_first_paragraph():
    assert sections(Outer) == dict.fromkeys(["one", "named.NAME", "several[]"], "Explain the inner one.")


def test_what_a_person_types_finds_its_keys():
    assert [key.place for key in find_keys(Outer, "one.size")] == ["one.size"]
    assert [key.place for key in find_keys(Outer, "[[several]]")] == ["several[].size", "several[].kind"]
    assert [key.place for key in find_keys(Outer, "named.anything.size")] == ["named.NAME.size"]
    assert [key.place for key in find_keys(Outer, "kind")] == ["one.kind", "named.NAME.kind", "several[].kind"]
    with pytest.raises(UserError, match=r"one\.siez: a recipe has no such key; did you mean one\.size\?"):
        find_keys(Outer, "one.siez")


def test_the_recipes_own_defaults_are_told_as_toml_writes_them():
    keys = {key.place: key for key in recipe_keys(Recipe)}
    assert keys["run.methods"].default == '["shared-basis"]'
    assert keys["data.feature_store"].default == "true"
    assert keys["data.clients[].name"].required
    assert keys["run.cache"].default == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "true"), ('a"b\\', '"a\\"b\\\\"'), ([1, 2.5], "[1, 2.5]"), ({"a": "b"}, '{ a = "b" }')],
)
def test_values_are_written_as_in_a_recipe(value, text):
    assert toml_value(value) == text


def test_a_methods_options_come_with_their_defaults():
    assert method_options("local") == {}
    assert method_options("fedavgm")["options"] == {"momentum": 0.9, "learning_rate": 1.0}
    assert "mu" in method_options("fedprox")["objective_options"]
