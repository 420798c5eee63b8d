"""What a study's jobs run, and how they are submitted; with submitit's local executor where it is installed."""

import sys
from types import SimpleNamespace

import pytest

from fedcmp.errors import UserError
from fedcmp.study.submitting import job_command, job_parameters, submit


def test_a_job_runs_this_command_without_what_submits(tmp_path):
    recipe = tmp_path / "study.toml"
    assert job_command(recipe) == [sys.executable, "-m", "fedcmp", "study", str(recipe)]
    command = job_command(recipe, options=["study.workers=8", "tuning.seed=7"], only=["image"], minutes=90.0)
    assert command[5:] == [
        *("--option", "study.workers=8", "--option", "tuning.seed=7"),
        *("--only", "image"),
        *("--minutes", "90"),
    ]


def test_parameters_are_submitits_own_or_slurms():
    found = job_parameters(["partition=gpu", "mem_gb=16.5", "slurm_account=a=b", "timeout_min=30"], name="s", workers=4)
    assert found == {
        "name": "fedcmp-s",
        "cpus_per_task": 4,
        "timeout_min": 30,
        "mem_gb": 16.5,
        "slurm_partition": "gpu",
        "slurm_account": "a=b",
    }
    assert job_parameters([], name="s", workers=1)["timeout_min"] == 24 * 60
    assert job_parameters([], name="s", workers=1, minutes=90)["timeout_min"] == 150


@pytest.mark.parametrize("text", ["partition", "=gpu", "partition="])
def test_a_parameter_without_a_value_is_refused(text):
    with pytest.raises(UserError, match=f"--slurm-option {text}: give NAME=VALUE"):
        job_parameters([text], name="s", workers=1)


def test_without_submitit_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        UserError, match=r"^fedcmp study --slurm: submitit is not installed: pip install 'fedcmp\[slurm\]'"
    ):
        submit(["true"], {}, jobs=1, folder=tmp_path)


class Executor:
    """Stands for submitit's, after its API reference: notes what it is given."""

    made: list["Executor"] = []  # noqa: RUF012 - emptied by each test

    def __init__(self, folder, cluster):
        self.folder, self.cluster, self.parameters, self.submitted = folder, cluster, {}, []
        self.made.append(self)

    def update_parameters(self, **parameters):
        if "slurm_partiton" in parameters:
            raise NameError("unknown parameter partiton\nmore of it")
        self.parameters |= parameters

    def submit(self, function):
        self.submitted.append(function)
        return SimpleNamespace(job_id=str(len(self.submitted)))


def test_what_submitit_is_asked_for(tmp_path, monkeypatch):
    helpers = SimpleNamespace(CommandFunction=lambda command: ("command", command))
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor, helpers=helpers))
    Executor.made.clear()
    jobs = submit(["fedcmp", "study"], {"timeout_min": 2}, jobs=3, folder=tmp_path)
    assert [job.job_id for job in jobs] == ["1", "2", "3"]
    (executor,) = Executor.made
    assert (executor.cluster, executor.folder, executor.parameters) == ("slurm", tmp_path / "%j", {"timeout_min": 2})
    assert executor.submitted == [("command", ["fedcmp", "study"])] * 3
    with pytest.raises(UserError, match=r"^--slurm: 3 jobs cannot be submitted \(unknown parameter partiton\)$"):
        submit(["fedcmp"], {"slurm_partiton": "gpu"}, jobs=3, folder=tmp_path)


def test_jobs_run_the_command(tmp_path):
    pytest.importorskip("submitit")
    command = [sys.executable, "-c", "print('it ran')"]
    jobs = submit(command, {"timeout_min": 2}, jobs=2, folder=tmp_path / "jobs", cluster="local")
    assert [job.result().strip() for job in jobs] == ["it ran"] * 2
    assert len({job.job_id for job in jobs}) == 2
    with pytest.raises(UserError, match=r"^--slurm: 1 job cannot be submitted"):
        submit(command, {"no_such_parameter": 1}, jobs=1, folder=tmp_path / "jobs", cluster="local")
