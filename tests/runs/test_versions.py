import pytest

from fedcmp.config import dump_recipe, load_recipe
from fedcmp.errors import UserError
from fedcmp.runs.place import check_own_recipe
from fedcmp.runs.versions import remark_on_versions, versions
from tests.cli.test_cli import invoke
from tests.config.recipes import MINIMAL, load


def written(tmp_path, **changed):
    path = tmp_path / "recipe.toml"
    path.write_text(dump_recipe(load(tmp_path, MINIMAL), versions=versions() | {"manifest": "abc"} | changed))
    return path


def test_a_runs_own_recipe_can_be_run_again(tmp_path):
    path = written(tmp_path)
    assert load_recipe(path) == load(tmp_path, MINIMAL)
    assert remark_on_versions(path) == ""


def test_other_versions_are_reported_in_one_line(tmp_path):
    path = written(tmp_path, torch="2.0.0", fedcmp="0.1.9")
    here = versions()
    assert remark_on_versions(path) == (
        f"{path}: written by other versions, so results may differ: fedcmp 0.1.9 there, {here['fedcmp']} here; "
        f"torch 2.0.0 there, {here['torch']} here"
    )


def test_a_library_that_is_missing_here_is_said_to_be(tmp_path, monkeypatch):
    path = written(tmp_path, **{"scikit-learn": "9.9"})
    monkeypatch.setattr("fedcmp.runs.versions.versions", lambda: {"fedcmp": versions()["fedcmp"]})
    assert "scikit-learn 9.9 there, none here" in remark_on_versions(path)


@pytest.mark.parametrize("text", [MINIMAL, "versions = 3\n", "[versions]\ntorch = 3\n", "[torn", None])
def test_a_recipe_without_readable_versions_has_no_remark(tmp_path, text):
    path = tmp_path / "other.toml"
    if text is not None:
        path.write_text(text)
    assert remark_on_versions(path) == ""


def test_one_methods_recipe_does_not_remove_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load(tmp_path, MINIMAL, ["run.name=several"])
    own = tmp_path / "runs" / "several" / "recipe.toml"
    method = tmp_path / "runs" / "several" / "fedavg" / "recipe.toml"
    with pytest.raises(UserError, match=r"is the recipe of one method of the run runs/several.*-o run\.name=NAME"):
        check_own_recipe(method, recipe, overwrite=True)
    check_own_recipe(method, recipe, overwrite=False)
    check_own_recipe(own, recipe, overwrite=True)
    check_own_recipe(tmp_path / "a.toml", recipe, overwrite=True)


def test_the_command_reports_other_versions_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, torch="2.0.0")
    (tmp_path / "runs" / "run").mkdir(parents=True)
    (tmp_path / "runs" / "run" / "recipe.toml").touch()
    done = invoke("train", str(path))
    assert done.stderr == f"{remark_on_versions(path)}\n"
    assert "a run is there already" in str(done.exception)
