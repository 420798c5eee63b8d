"""The verb hands the shipped recipe to `fedcmp train`; that verb's own tests train."""

import pytest

from fedcmp.cli import train
from fedcmp.shipped import shipped_recipe
from tests.cli.test_cli import invoke


def test_the_demo_trains_the_shipped_recipe(monkeypatch):
    given = []
    monkeypatch.setattr(train, "train_command", lambda recipe, **options: given.append((recipe, options)))
    assert invoke("demo", "--overwrite", "-o", "federation.rounds=2").exit_code == 0
    ((recipe, options),) = given
    assert recipe == shipped_recipe("demo").path
    assert options == {"option": ["federation.rounds=2"], "resume": False, "overwrite": True, "plan": False}


@pytest.mark.parametrize("where", ["here"])
def test_its_plan_is_printed_from_any_folder(tmp_path, monkeypatch, world_cache, where):
    (tmp_path / where).mkdir()
    monkeypatch.chdir(tmp_path / where)
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))
    done = invoke("demo", "--plan")
    assert done.exit_code == 0, done.exception
    assert "runs/demo: at most" in done.stdout
    assert not list(tmp_path.rglob("runs"))
