import subprocess
import sys

import pytest

import fedcmp
from fedcmp.aggregation import FedAvg, register, registry
from fedcmp.api.training import _loaded
from fedcmp.config import load_recipe
from fedcmp.shipped import shipped_recipe
from tests.api.conftest import SHORT


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, fedcmp; "
        "print([name for name in ('torch', 'transformers', 'numpy', 'pandas', 'pydantic', 'matplotlib') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_shipped_recipe_is_known_by_its_name_and_a_file_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _loaded("demo", {}) == load_recipe(shipped_recipe("demo").path)
    (tmp_path / "demo").write_text('[run]\nname = "mine"\n[data]\nnum_pairs = 50\n')  # a file of that name comes first
    assert _loaded("demo", {}).run.name == "mine"
    with pytest.raises(fedcmp.UserError, match=r"^none\.toml: no such recipe file$"):
        _loaded("none.toml", {})


def test_overrides_replace_keys_and_leave_the_rest_of_a_section():
    recipe = _loaded(
        SHORT, {"federation": {"rounds": 4}, "training.learning_rate": 0.5, "run": {"methods": ("local",)}}
    )
    assert (recipe.federation.rounds, recipe.training.learning_rate, recipe.training.batch_size) == (4, 0.5, 8)
    assert (recipe.run.methods, recipe.run.name) == (["local"], "short")
    assert SHORT["federation"] == {"rounds": 1}  # the caller's dict is as it was
    recipe = _loaded("demo", {"method.fedavg": {"options": {}}, "method": {"shared-basis": {"learning_rate": 0.1}}})
    assert recipe.method["shared-basis"].learning_rate == 0.1
    assert recipe.method["fedavg"].learning_rate is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rounds": 3}, r"rounds = 3: name the section too, as federation=\{'rounds': 3\}"),
        ({"federation": {"round": 3}}, r"recipe: federation\.round: unknown key; did you mean rounds\?"),
        ({"fedration.rounds": 3}, r"recipe: fedration: unknown key; did you mean federation\?"),
        ({"run.name.x": 3}, r"run\.name\.x: name is a value, not a section"),
    ],
)
def test_a_wrong_override_is_told_in_one_line(overrides, message):
    with pytest.raises(fedcmp.UserError, match=message):
        _loaded(SHORT, overrides)


def test_paths_are_the_recipes_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"data": {"format": "llava", "pairs": "a/pairs.json"}}
    assert _loaded(data, {}).data.pairs == tmp_path / "a" / "pairs.json"
    recipe = _loaded(data, {})
    assert _loaded(recipe, {"run.name": "again"}).data == recipe.data


def test_a_rule_that_workers_would_not_know_is_refused_before_they_start(tmp_path):
    register("elsewhere", summary="a test's own", paper="none")(
        type("Elsewhere", (FedAvg,), {"__module__": "notebook"})
    )
    try:
        with pytest.raises(fedcmp.UserError, match=r"run\.workers = 2: .*'elsewhere', which notebook defines; set run"):
            fedcmp.train(SHORT, run={"methods": ["elsewhere"], "workers": 2, "folder": tmp_path}, quiet=True)
    finally:
        del registry._ROWS["elsewhere"]


def test_a_run_of_that_name_is_not_overwritten(short_run):
    with pytest.raises(fedcmp.UserError, match="a run is there already"):
        fedcmp.train(SHORT, run={"folder": short_run.folder.parent}, quiet=True)


def test_what_is_not_there_is_named_by_its_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fedcmp.UserError, match=r"^recipe: data\.pairs = .*none\.json': no such file or folder$"):
        fedcmp.train({"data": {"format": "llava", "pairs": "none.json"}})


def test_it_is_said_what_begins_before_libraries_are_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fedcmp.simulation.train", None)
    for quiet in (False, True):
        with pytest.raises(ImportError):
            fedcmp.train("demo", run={"folder": tmp_path, "methods": ["fedavg", "ties"]}, quiet=quiet)
        assert capsys.readouterr().err == ("" if quiet else f"{tmp_path}/demo: fedavg, ties; loading libraries ...\n")
