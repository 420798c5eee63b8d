import tomllib

import pytest

from fedcmp.shipped import shipped_recipes
from tests.cli.test_cli import invoke


def test_all_recipes_are_listed_with_a_line_each():
    lines = invoke("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert all(line.split()[1] in ("train", "study") for line in lines)


def test_a_recipe_is_printed_as_it_is():
    assert invoke("recipes", "demo").stdout == shipped_recipes()["demo"].path.read_text()


def test_a_recipe_is_copied_once(tmp_path):
    done = invoke("recipes", "demo", "--out", str(tmp_path / "new" / "mine.toml"))
    assert done.stdout == f"recipe: {tmp_path / 'new' / 'mine.toml'}\n"
    assert tomllib.loads((tmp_path / "new" / "mine.toml").read_text())["run"]["name"] == "demo"
    (tmp_path / "new" / "mine.toml").write_text("kept")
    again = invoke("recipes", "demo", "--out", str(tmp_path / "new" / "mine.toml"))
    assert "is there already" in str(again.exception)
    assert (tmp_path / "new" / "mine.toml").read_text() == "kept"
    assert invoke("recipes", "demo", "--out", str(tmp_path)).stdout == f"recipe: {tmp_path / 'demo.toml'}\n"


@pytest.mark.parametrize(
    ("arguments", "message"), [(["demmo"], "did you mean demo?"), (["--out", "x.toml"], "name the recipe to copy")]
)
def test_mistakes_are_told_in_one_line(arguments, message):
    assert message in str(invoke("recipes", *arguments).exception)
