"""What users and other people's code rely on is as it was listed; a change is meant, and has a line in CHANGELOG."""

import difflib

import pytest
import typer
from pydantic import BaseModel, Field

from tests.surfaces import surfaces
from tests.surfaces.renew import made_run

LISTS = {"cli": surfaces.command_line, "recipe": surfaces.recipe_keys, "python": surfaces.python_names}


def assert_as_listed(name, found):
    listed = (surfaces.FOLDER / f"{name}.txt").read_text().splitlines()
    changes = list(difflib.unified_diff(listed, found, "listed", "now", lineterm="", n=0))
    assert not changes, "\n".join([*changes, "if it is meant: make surfaces, and a line in CHANGELOG"])


@pytest.mark.parametrize("name", LISTS)
def test_a_surface_is_as_it_was_listed(name):
    assert_as_listed(name, LISTS[name]())


def test_a_runs_folder_holds_the_files_that_were_listed(tmp_path, world_cache):
    assert_as_listed("run-folder", surfaces.run_folder(made_run(tmp_path, world_cache)))


def test_every_list_is_compared():
    assert {path.stem for path in surfaces.FOLDER.glob("*.txt")} == {*LISTS, "run-folder"}


def test_the_guide_names_every_file_of_a_runs_folder():
    guide = (surfaces.FOLDER.parents[1] / "docs" / "guide.md").read_text()
    section = guide.partition("## A run's folder")[2].partition("metrics.jsonl holds")[0]
    listed = (surfaces.FOLDER / "run-folder.txt").read_text().splitlines()
    own = {line.removeprefix("METHOD/").split("/")[0] for line in listed if line.startswith("METHOD/")}
    assert own <= {word.strip("/,") for line in section.splitlines() for word in line.replace("/", "/ ").split()}


class Inner(BaseModel):
    size: int = Field(3, ge=1)


class Outer(BaseModel):
    one: Inner
    named: dict[str, Inner] = {}
    several: list[Inner] = []
    plain: float | None = None


def test_a_key_with_another_bound_default_or_type_is_another_line():
    inner = ["size: integer >= 1 = 3"]
    expected = [f"{prefix}{line}" for prefix in ("one.", "named.NAME.", "several[].") for line in inner]
    assert list(surfaces._keys(Outer)) == [*expected, "plain: number | null = none"]


def test_arguments_are_listed_in_their_order_and_options_with_bounds_and_defaults():
    app = typer.Typer(add_completion=False)

    @app.command("paint")
    def paint(wall: str, door: int, many: int = typer.Option(2, "--many", "-m", min=1), wet: bool = True) -> None: ...

    @app.command("rest")
    def rest() -> None: ...

    app.callback()(lambda: None)
    assert sorted(surfaces._verb_lines(typer.main.get_command(app), "x")) == [
        "x paint: --many, -m integer >= 1 = 2",
        "x paint: --wet, --no-wet = True",
        "x paint: argument 1, WALL: text (required)",
        "x paint: argument 2, DOOR: integer (required)",
        "x rest",
    ]
