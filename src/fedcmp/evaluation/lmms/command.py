"""One benchmark as one process of lmms-eval's: the command, its variables, its log, its end."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import Benchmark
from fedcmp.evaluation.lmms.environment import Environment, child_variables
from fedcmp.evaluation.lmms.judge import Judge
from fedcmp.evaluation.lmms.tasks import launcher

_PAIRED = ("mme", "mmvp")  # two rows are scored together, so a limit must not part them


@dataclass(frozen=True)
class Question:
    """What one process is asked to do.

    Attributes:
        benchmark: which.
        model: the exported LLaVA folder.
        tasks: the folder of our task files.
        output: an empty folder for lmms-eval's files.
        answers: where lmms-eval keeps its answers, so that a killed process goes on.
        arrow: where the `datasets` library keeps what it unpacks.
        device: "cpu", "cuda" or "cuda:0".
        limit: rows at most.
        judge: of open answers.
    """

    benchmark: Benchmark
    model: Path
    tasks: Path
    output: Path
    answers: Path
    arrow: Path
    device: str
    limit: int | None = None
    judge: Judge | None = None


def rows_asked(benchmark: Benchmark, limit: int | None) -> int | None:
    """The limit, made even where a benchmark counts pairs."""
    return limit + limit % 2 if limit is not None and benchmark.name in _PAIRED else limit


def lmms_command(question: Question, environment: Environment) -> list[str]:
    """The command.

    Raises:
        UserError: a folder's name that lmms-eval's arguments cannot hold.
    """
    if set(",=") & set(str(question.model)):
        raise UserError(f"{question.model}: lmms-eval takes no path with ',' or '='; move the folder")
    # device_map too: without it llava_hf hands transformers an empty one, and the CPU is not taken
    command = [str(environment.python), str(launcher(question.tasks)), "--model", "llava_hf"]
    command += ["--model_args", f"pretrained={question.model},device_map={question.device}"]
    command += ["--tasks", question.benchmark.task_name, "--include_path", str(question.tasks)]
    command += ["--batch_size", "1", "--device", question.device]
    command += ["--output_path", str(question.output), "--log_samples", "--use_cache", str(question.answers)]
    limit = rows_asked(question.benchmark, question.limit)
    return command if limit is None else [*command, "--limit", str(limit)]


def lmms_variables(question: Question) -> dict[str, str]:
    """The process's variables: no hub, no network but the judge's."""
    judged = question.judge.variables() if question.judge is not None and question.benchmark.judge is not None else {}
    # one name for all processes: each finds what those before it, killed or not, were answered
    own = {"HF_DATASETS_CACHE": str(question.arrow), "LMMS_CACHE_RUN_ID": "fedcmp"}
    return child_variables() | own | judged


def run_lmms(question: Question, environment: Environment, log: Path) -> None:
    """Run it to its end; it is stopped, with everything that it started, when this process is interrupted or killed.

    lmms-eval ends with exit code 0 whatever happened: whether it worked is seen from its files (answers.py).

    Raises:
        UserError: it could not be started.
    """
    command, variables = lmms_command(question, environment), lmms_variables(question)
    question.output.mkdir(parents=True, exist_ok=True)
    # its working folder is ours: it would read a .env file where the user is
    with log.open("wb") as written:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # nothing is written: it closes when we end, whatever ended us (child/launch.py)
                stdout=written,
                stderr=subprocess.STDOUT,
                env=variables,
                cwd=question.output,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"--lmms-python {environment.python}: cannot be started ({error.strerror})") from error
        with process:
            try:
                process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
