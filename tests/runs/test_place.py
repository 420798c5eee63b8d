"""What lies at a run's place decides whether a run may begin there: seen before libraries are loaded."""

import subprocess
import sys

import pytest

from fedcmp.config import Recipe, dump_recipe
from fedcmp.errors import UserError
from fedcmp.runs.place import check_one_run, check_place, preparing_place
from tests.simulation.runner import environment, recipe


def at(folder, dtype="float32", workers=1, seed=0):
    run = {"folder": str(folder), "workers": workers, "seed": seed}
    return Recipe.model_validate({"run": run, "model": {"dtype": dtype}, "data": {"num_pairs": 9}})


def begin(run):
    run.run.place.mkdir()
    (run.run.place / "recipe.toml").write_text(dump_recipe(run))


def test_a_free_place_and_an_empty_folder_are_taken(tmp_path):
    for _ in range(2):
        check_place(at(tmp_path), resume=False, overwrite=False)
        with pytest.raises(UserError, match=r"run: no run is there to resume; leave --resume out"):
            check_place(at(tmp_path), resume=True, overwrite=False)
        at(tmp_path).run.place.mkdir(exist_ok=True)


def test_what_a_process_that_was_killed_had_half_written_is_no_run(tmp_path):
    at(tmp_path).run.place.mkdir()
    (at(tmp_path).run.place / "recipe.toml.4711.tmp").write_text("[ru")
    check_place(at(tmp_path), resume=False, overwrite=False)
    with pytest.raises(UserError, match="no run is there to resume"):
        check_place(at(tmp_path), resume=True, overwrite=False)


def test_a_run_that_was_killed_while_it_was_prepared_can_be_resumed(tmp_path):
    preparing_place(at(tmp_path).run.place).mkdir()
    check_place(at(tmp_path), resume=True, overwrite=False)


def test_a_run_that_is_there_is_kept(tmp_path):
    begin(at(tmp_path))
    with pytest.raises(UserError, match=r"run: a run is there already; give --resume .* -o run\.name=NAME"):
        check_place(at(tmp_path), resume=False, overwrite=False)
    with pytest.raises(UserError, match="exclude each other"):
        check_place(at(tmp_path), resume=True, overwrite=True)
    check_place(at(tmp_path), resume=False, overwrite=True)
    (tmp_path / "run" / "recipe.toml").unlink()
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not a run"):
        check_place(at(tmp_path), resume=False, overwrite=True)
    for resume in (False, True):
        with pytest.raises(UserError, match=r"is not empty and holds no run .* name another: -o run\.name=NAME"):
            check_place(at(tmp_path), resume=resume, overwrite=False)


def test_several_runs_in_one_folder_are_named(tmp_path):
    for method in ("fedavg", "local"):
        (tmp_path / method).mkdir()
        (tmp_path / method / "metrics.jsonl").touch()
    check_one_run(tmp_path / "local")
    with pytest.raises(UserError, match=r"holds several runs; name one of them, as .*fedavg: fedavg, local$"):
        check_one_run(tmp_path)


def test_only_the_same_run_goes_on(tmp_path):
    begin(at(tmp_path, dtype="bfloat16"))
    check_place(at(tmp_path, dtype="bfloat16", workers=2), resume=True, overwrite=False)
    check_place(at(tmp_path, dtype="auto"), resume=True, overwrite=False)  # the run's own dtype is kept
    with pytest.raises(UserError, match=r"model.dtype = 'float32': the run in .* was begun with 'bfloat16'"):
        check_place(at(tmp_path), resume=True, overwrite=False)
    policy = at(tmp_path, dtype="auto")
    federation = policy.federation.model_copy(update={"on_bad_update": "drop", "min_clients": 2, "deadline": 5.0})
    check_place(policy.model_copy(update={"federation": federation}), resume=True, overwrite=False)
    with pytest.raises(UserError, match=r"run.seed = 1: "):
        check_place(at(tmp_path, dtype="auto", seed=1), resume=True, overwrite=False)


def test_a_run_of_a_version_with_other_names_is_not_resumed(tmp_path):
    """Its "fedcmp" was another rule."""
    old = at(tmp_path)
    old.run.place.mkdir()
    (old.run.place / "recipe.toml").write_text(dump_recipe(old, versions={"fedcmp": "0.1.0"}))
    with pytest.raises(UserError, match=r"recipe\.toml: the run was begun with fedcmp 0\.1\.0, whose meth"):
        check_place(old, resume=True, overwrite=False)
    check_place(old, resume=False, overwrite=True)
    (old.run.place / "recipe.toml").write_text(dump_recipe(old, versions={"fedcmp": "0.2.0"}))
    check_place(old, resume=True, overwrite=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "small.toml"], "runs/small: is not empty and holds no run"),
        (["train", "."], ".: is a folder; name the recipe in it: small.toml"),
        (["evaluate", "runs"], "runs: is not a run's folder"),
        (["export", "runs", "out"], "runs: is not a run's folder"),
        (["evaluate", "runs", "--suite", "llava7", "--datasets", ".", "--only", "pop"], "--only pop: "),
        (["evaluate", "runs", "--suite", "llava7", "--datasets", ".", "--prompts", "word"], "--prompts word: "),
        (["evaluate", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_mistake_is_told_before_transformers_is_loaded_and_workers_are_started(
    tmp_path, world_cache, arguments, said
):
    recipe(tmp_path, methods=["fedavg"], workers=2)
    (tmp_path / "runs" / "small" / "fedavg").mkdir(parents=True)
    program = (
        "import atexit, sys; atexit.register(lambda: print('transformers' in sys.modules, "
        "'fedcmp.simulation.pool' in sys.modules, len(WorkerProcesses.made)))\n"
        "from fedcmp.workers.processes import WorkerProcesses\n"
        "WorkerProcesses.made = []\n"
        "WorkerProcesses.__init__ = lambda self, *_, **__: self.made.append(self)\n"
        "from fedcmp.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path, world_cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"fedcmp: {said}")
    assert done.stdout == "False False 0\n"
