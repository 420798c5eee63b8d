"""Runs that cannot fit: refused before anything is loaded or written, with keys that are enough."""

import json

import pytest

from fedcmp.cli.progress import Display
from fedcmp.config import Recipe, load_recipe
from fedcmp.errors import UserError
from fedcmp.planning.machine import Machine
from fedcmp.planning.preflight import plan_run
from fedcmp.simulation.train import train
from tests.planning.plans import PLENTY, has, silent, world
from tests.simulation.runner import recipe


@pytest.mark.parametrize(
    ("machine", "options", "message"),
    [
        ({"memory": 10**8}, {}, r"memory: needs up to .* GB, 100 MB available: no key of the recipe is enough: take a"),
        ({"memory": 16 * 10**8}, {}, r"1\.6 GB available: set run\.workers = 1 \(run\.preflight"),
        (
            {"memory": 16 * 10**8},
            {"training": {"batch_size": 4096}},
            r"set run\.workers = 1 and training\.micro_batch = \d+",
        ),
        (
            {"cache_disk": 10**4},
            {},
            r"frozen features need .*, 10\.0 kB free: set data\.feature_dtype = .float8_e4m3., run\.cache to",
        ),
        ({"run_disk": 10**4}, {}, r"runs: the run needs .* set run\.folder to one on a larger disk"),
    ],
)
def test_what_cannot_fit_is_refused_with_its_mend(tmp_path, monkeypatch, machine, options, message):
    monkeypatch.setenv("FEDCMP_CACHE", str(tmp_path))
    has(monkeypatch, Machine(**(PLENTY.__dict__ | machine)))
    plan = plan_run(world(**options))
    with pytest.raises(UserError, match=message) as refused:
        plan.check()
    assert "\n" not in str(refused.value)
    has(monkeypatch, PLENTY)
    plan_run(world(**options)).check()


@pytest.mark.parametrize("memory", [7, 10, 13, 16, 20, 30])
@pytest.mark.parametrize("cohort", [1, 5])
def test_what_is_named_is_enough(monkeypatch, tmp_path, memory, cohort):
    """Every key alone where "or" stands between them, all of them together where "and" does."""
    monkeypatch.setenv("FEDCMP_CACHE", str(tmp_path))
    has(monkeypatch, Machine(memory * 10**8, None, 10**12, 10**12))
    sections = {"run": {"cohort": cohort}, "training": {"batch_size": 1024}, "data": {"max_caption_tokens": 256}}
    sections["evaluation"] = {"captions": 8, "questions_per_kind": 0}
    content = world(**sections).model_dump(mode="json", exclude_none=True)
    (misfit,) = plan_run(Recipe.model_validate(content)).misfits
    if "no key of the recipe is enough" in misfit:
        assert memory < 10
        return
    keys = misfit.partition(": set ")[2]
    for together in keys.split(" or "):
        changed = json.loads(json.dumps(content))
        for key in together.split(" and "):
            name, _, value = key.partition(" = ")
            section, _, name = name.partition(".")
            changed[section][name] = json.loads(value)
        assert plan_run(Recipe.model_validate(changed)).misfits == [], together


def test_a_micro_batch_is_the_largest_that_fits(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDCMP_CACHE", str(tmp_path))
    has(monkeypatch, Machine(16 * 10**8, None, 10**12, 10**12))
    said = plan_run(world(run={"workers": 1}, training={"batch_size": 4096})).misfits[0]
    size = int(said.split("training.micro_batch = ")[1].split()[0])
    assert plan_run(world(run={"workers": 1}, training={"batch_size": 4096, "micro_batch": 2 * size})).misfits


def test_a_probe_that_would_not_fit_is_refused_before_it_loads_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr("fedcmp.planning.dtype.load_language", lambda recipe: pytest.fail("it was loaded"))
    has(monkeypatch, Machine(10**8, None, 10**12, 10**12))
    options = ["model.dtype=auto", f"run.folder={tmp_path / 'runs'}", f"run.cache={tmp_path / 'cache'}"]
    with pytest.raises(UserError, match="memory: needs up to"):
        train(load_recipe(recipe(tmp_path, methods=["fedavg"]), options), progress=silent)


def test_a_run_that_may_not_fit_can_be_run_all_the_same(tmp_path, world_cache, monkeypatch, capsys):
    """Refused before anything is prepared; with run.preflight = "warn" it is only told."""
    has(monkeypatch, Machine(10**8, None, 10**12, 10**12))
    places = [f"run.folder={tmp_path / 'runs'}", f"run.cache={world_cache}", "federation.rounds=1", "run.workers=1"]
    path = recipe(tmp_path, methods=["fedavg"])
    refused = load_recipe(path, places)
    with pytest.raises(UserError, match=r'run\.preflight = "warn"'), Display(refused) as display:
        train(refused, events=display, progress=display.preparing)
    assert not (tmp_path / "runs").exists()
    capsys.readouterr()
    warned = load_recipe(path, [*places, "run.preflight=warn", "data.num_pairs=24", "evaluation.captions=8"])
    with Display(warned) as display:
        train(warned, events=display, progress=display.preparing)
    assert "may not fit: memory: needs up to" in capsys.readouterr().err
