"""The examples and the notebook run, at a small size."""

import ast
import runpy
from pathlib import Path

import nbformat
import pytest

import fedcmp
from fedcmp.aggregation import registry
from tests.examples.small import small_training

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def small_and_elsewhere(tmp_path, monkeypatch, world_cache):
    """Every training is small, in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))
    monkeypatch.setattr(fedcmp, "train", small_training(fedcmp.train))


def main(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_two_organisations_with_their_own_files(tmp_path, capsys):
    run = main("own_data.py")(tmp_path, pairs=60, rounds=1)
    assert run.finished
    assert run.methods == ["fedavg", "shared-basis"]
    assert (tmp_path / "exported" / "config.json").is_file()
    assert "after:" in capsys.readouterr().out


def test_a_rule_alone_brings_the_layer_to_its_target():
    alone = main("rule_alone.py")
    assert alone("fedavg", rounds=5) < 0.5 * alone("fedavg", rounds=1)
    assert alone("fedcmp", rounds=5, momentum=False) < 0.5 * alone("fedcmp", rounds=1, momentum=False)


def test_a_rule_of_ones_own_is_trained_next_to_fedavg(tmp_path):
    try:
        run = main("custom_method.py")(tmp_path, pairs=120, rounds=1)
    finally:
        registry._ROWS.pop("median", None)
    assert sorted(run.methods)[-1] == "median"
    assert run.finished


def test_the_notebook_runs(capsys):
    notebook = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
    nbformat.validate(notebook)
    names = {}
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            code = ast.parse(cell.source.replace("PAIRS, ROUNDS = 3000, 5", "PAIRS, ROUNDS = 120, 1"))
            last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
            exec(compile(code, "cell", "exec"), names)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert names["run"].finished
    assert any("shared-basis" in value._repr_html_() for value in shown if hasattr(value, "_repr_html_"))
    assert "after:" in capsys.readouterr().out
