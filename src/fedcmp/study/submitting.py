"""Hand a study to a cluster: jobs that all run the same command on the same folder and share its runs (`sharing`).

Jobs go through submitit, an optional library. Each is one node with `study.workers` cores; what submitit and Slurm
write of it is in STUDY/jobs/. A job that is ended by the cluster loses nothing but the runs it had begun: the other
jobs, or the same command again, do those.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedcmp.errors import UserError, counted
from fedcmp.extras import require

Value = int | float | str
# parameters that submitit knows on every cluster, from its API reference; any other is a parameter of Slurm's
_GENERAL = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "tasks_per_node",
    "cpus_per_task",
    "gpus_per_node",
    "stderr_to_stdout",
)
_MINUTES = 24 * 60  # of a job where nobody says more: submitit's own default is 5 minutes


def job_command(
    recipe: Path, *, options: Sequence[str] = (), only: Sequence[str] = (), minutes: float | None = None
) -> list[str]:
    """Return the command that each job runs: this one, without what submits."""
    command = [sys.executable, "-m", "fedcmp", "study", str(recipe.absolute())]
    for name, values in (("--option", options), ("--only", only)):
        for value in values:
            command += [name, value]
    return command if minutes is None else [*command, "--minutes", f"{minutes:g}"]


def job_parameters(given: Sequence[str], *, name: str, workers: int, minutes: float | None = None) -> dict[str, Value]:
    """Return a job's parameters as submitit names them.

    Args:
        given: "NAME=VALUE": one of submitit's own, such as timeout_min or mem_gb, or an option of sbatch, such as
            partition or account.
        name: of the study.
        workers: of the study: the job's cores.
        minutes: after which the job starts no new run.

    Raises:
        UserError: a parameter without a value.
    """
    limit = _MINUTES if minutes is None else round(minutes) + 60  # a run that was begun shall end
    found: dict[str, Value] = {"name": f"fedcmp-{name}", "cpus_per_task": workers, "timeout_min": limit}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals or not value:
            raise UserError(f"--slurm-option {text}: give NAME=VALUE, for example partition=gpu or timeout_min=600")
        key = key.removeprefix("slurm_")
        found[key if key in _GENERAL else f"slurm_{key}"] = _value(value)
    return found


def submit(
    command: Sequence[str], parameters: Mapping[str, Value], *, jobs: int, folder: Path, cluster: str = "slurm"
) -> list[Any]:
    """Submit equal jobs.

    Args:
        command: what each runs.
        parameters: of each job, see `job_parameters`.
        jobs: how many.
        folder: where submitit writes scripts and output; on a disk that the cluster's machines see.
        cluster: "slurm", or "local": processes of this machine, to try out.

    Returns:
        submitit's jobs; each has a job_id.

    Raises:
        UserError: submitit is not installed, there is no such cluster here, or it refuses a parameter or the jobs.
    """
    require("submitit", "slurm", "fedcmp study --slurm")
    import submitit

    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster)
        executor.update_parameters(**parameters)
        return [executor.submit(submitit.helpers.CommandFunction(list(command))) for _ in range(jobs)]
    except (OSError, RuntimeError, ValueError, TypeError, NameError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"--slurm: {counted(jobs, 'job')} cannot be submitted ({reason})") from error


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
