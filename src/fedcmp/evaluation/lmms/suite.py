"""The seven benchmarks asked one after another; what is there and fits is not asked again.

OUT/pope.json                     figures, versions, hashes, every answer; written whole
OUT/.work/                        while one is being asked: the exported model, our task file, lmms-eval's files
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.answers import Answers, read_answers
from fedcmp.evaluation.lmms.benchmarks import Benchmark, Prompts
from fedcmp.evaluation.lmms.command import Question, rows_asked, run_lmms
from fedcmp.evaluation.lmms.datasets import LocalData, find_dataset
from fedcmp.evaluation.lmms.environment import Environment
from fedcmp.evaluation.lmms.judge import Judge, judge_prompt_hash
from fedcmp.evaluation.lmms.tasks import task_hash, task_keys, write_task
from fedcmp.files import write_whole
from fedcmp.locks import alone_in

FORMAT = 1  # of result files
Say = Callable[[str], None]


@dataclass(frozen=True)
class AskedModel:
    """The model that is asked.

    Attributes:
        hash: of all that makes it what it is.
        folder: gives the exported LLaVA folder; called only if something is to be asked, with a place for it.
        round: of the run, after which it is asked.
    """

    hash: str
    folder: Callable[[Path], Path]
    round: int | None = None


@dataclass(frozen=True)
class Settings:
    """What is asked, and how.

    Attributes:
        environment: lmms-eval's.
        datasets: the folder of the benchmarks' data.
        cache: where unpacked data are kept.
        benchmarks: which, in order.
        insisted: whether the user named them: then data that are missing are a mistake.
        limit: rows at most, for trying out.
        judge: of open answers; without one such benchmarks are skipped.
        prompts: another form than lmms-eval's.
        device: "auto", "cpu", "cuda", ...
    """

    environment: Environment
    datasets: Path
    cache: Path
    benchmarks: Sequence[Benchmark]
    insisted: bool = False
    limit: int | None = None
    judge: Judge | None = None
    prompts: Prompts | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Outcome:
    """What became of one benchmark.

    Attributes:
        benchmark: its name.
        status: "asked" now, "kept" from before, "skipped" or "failed".
        score: the figure, if there is one.
        reason: why it was skipped or failed.
        remark: what has to be said with the figure.
    """

    benchmark: str
    status: Literal["asked", "kept", "skipped", "failed"]
    score: float | None = None
    reason: str = ""
    remark: str = ""

    def line(self) -> str:
        """For people."""
        if self.score is None:
            return f"{self.benchmark}: {self.status}: {self.reason}"
        remarks = [*(["kept"] if self.status == "kept" else []), *([self.remark] if self.remark else [])]
        return f"{self.benchmark}: {self.score:.1f}" + (f" ({', '.join(remarks)})" if remarks else "")


@dataclass(frozen=True)
class _Planned:
    benchmark: Benchmark
    data: LocalData
    known: dict[str, Any]  # all that the result depends on

    @property
    def name(self) -> str:
        """The benchmark's name as people see it: that of the embedded world's suite where these are its items."""
        return f"{self.benchmark.name}-world" if self.data.toy else self.benchmark.name

    @property
    def identity(self) -> str:
        return hashlib.sha256(json.dumps(self.known, sort_keys=True).encode()).hexdigest()


def ask_benchmarks(
    model: AskedModel, out: Path, settings: Settings, say: Say, done: Callable[[Outcome], None] | None = None
) -> list[Outcome]:
    """Ask one model every benchmark that is not answered yet.

    Args:
        model: the model.
        out: the folder of result files.
        settings: what is asked.
        say: receives a line for people at every event.
        done: receives what became of a benchmark instead of `say`.

    Returns:
        What became of each benchmark, in their order. One that fails does not keep the others from being asked.

    Raises:
        UserError: a benchmark that the user named has no data, or no judge; no such device; or another process fills
            this folder.
    """
    device = _device(settings)
    planned = [_plan(model, benchmark, settings) for benchmark in settings.benchmarks]
    done = done or (lambda outcome: say(outcome.line()))
    taken = f"{out}: another process asks benchmarks here; wait for it, or give each its own folder by --out"
    with alone_in(out, taken):
        out.mkdir(parents=True, exist_ok=True)
        work = out / ".work"
        outcomes = []
        for item in planned:
            if isinstance(item, Outcome):
                outcomes.append(item)
            elif (kept := _kept(out, item)) is not None:
                outcomes.append(Outcome(item.name, "kept", kept))
            else:
                say(f"{item.name}: lmms-eval is asked ...")
                outcomes.append(_asked(model, item, out, work, settings, device))
            done(outcomes[-1])
        if not any(outcome.status == "failed" for outcome in outcomes):
            shutil.rmtree(work, ignore_errors=True)
    return outcomes


def check_settings(settings: Settings) -> list[Outcome]:
    """What can be seen before a model is there: the benchmarks that will be skipped, with the reason.

    Raises:
        UserError: a benchmark that the user named has no data, or no judge; or no such device.
    """
    _device(settings)
    planned = [_plan(AskedModel("", Path), benchmark, settings) for benchmark in settings.benchmarks]
    return [outcome for outcome in planned if isinstance(outcome, Outcome)]


def _device(settings: Settings) -> str:
    name, has_gpu = settings.device, settings.environment.cuda
    if name == "auto":
        return "cuda" if has_gpu else "cpu"
    if re.fullmatch(r"cpu|mps|(cuda|xpu)(:\d+)?", name) is None:
        raise UserError(f"device {name}: give auto, cpu, cuda, cuda:0, xpu or mps")
    if name.startswith("cuda") and not has_gpu:
        raise UserError(f"device {name}: the torch of {settings.environment.python} sees no GPU; give cpu or auto")
    return name


def _plan(model: AskedModel, benchmark: Benchmark, settings: Settings) -> "_Planned | Outcome":
    def without(reason: str) -> Outcome:
        if settings.insisted:
            raise UserError(f"{benchmark.name}: {reason}")
        return Outcome(benchmark.name, "skipped", reason=reason)

    if benchmark.judge is not None and settings.judge is None:
        return without("its answers need a judge: give --judge-url and --judge-model")
    if settings.prompts is not None and not benchmark.prompted:
        return without(
            "lmms-eval's task always asks in its own form, and this model is asked in the embedded world's, which its "
            "LLM was trained on (--prompts world, the default for such runs); --prompts lmms-eval asks all the same"
        )
    data = find_dataset(benchmark, settings.datasets, settings.cache)
    if data is None:
        return without(f"{settings.datasets} holds no folder for it, such as {benchmark.folders[0]}/, or an empty one")
    judge = None
    if benchmark.judge is not None and settings.judge is not None:
        judge = settings.judge.record(judge_prompt_hash(benchmark.judge, settings.environment.tasks))
    known = {
        "format": FORMAT,
        "benchmark": benchmark.name,
        "model": model.hash,
        "lmms_eval": settings.environment.versions.get("lmms-eval"),
        "task_sha256": task_hash(benchmark, settings.environment, settings.prompts),
        "data_sha256": data.hash,
        "limit": rows_asked(benchmark, settings.limit),
        "judge": judge,
        "prompts": None if settings.prompts is None else asdict(settings.prompts),
    } | ({"toy": True} if data.toy else {})
    return _Planned(benchmark, data, known)


def _kept(out: Path, planned: _Planned) -> float | None:
    """The score of a result file that answers the same question; another one is asked again."""
    try:
        record = json.loads((out / f"{planned.benchmark.name}.json").read_text(encoding="utf-8"))
        return float(record["score"]) if record["identity"] == planned.identity else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _asked(model: AskedModel, planned: _Planned, out: Path, work: Path, settings: Settings, device: str) -> Outcome:
    benchmark, environment, begun = planned.benchmark, settings.environment, time.monotonic()
    own = work / benchmark.name
    shutil.rmtree(own / "output", ignore_errors=True)
    own.mkdir(parents=True, exist_ok=True)
    log = own / "log.txt"
    question = Question(
        benchmark=benchmark,
        model=model.folder(work).resolve(),
        tasks=(own / "tasks").resolve(),
        output=(own / "output").resolve(),
        # lmms-eval knows a model by its path alone: another model must not find this one's answers
        answers=(own / f"answers-{planned.identity[:16]}").resolve(),
        arrow=(settings.cache / "benchmarks" / "arrow").resolve(),
        device=device,
        limit=settings.limit,
        judge=settings.judge,
    )
    write_task(question.tasks, benchmark, environment, planned.data, settings.prompts)
    try:
        if benchmark.judge is not None and settings.judge is not None:
            settings.judge.check()
        run_lmms(question, environment, log)
        answers = read_answers(benchmark, question.output, log)
    except UserError as error:
        return Outcome(planned.name, "failed", reason=str(error).removeprefix(f"{benchmark.name}: "))
    record = _record(planned, answers, settings) | {
        "round": model.round,
        "device": device,
        "seconds": round(time.monotonic() - begun, 1),
    }
    content = record | {"samples": answers.samples}
    write_whole(out / f"{benchmark.name}.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    shutil.rmtree(own, ignore_errors=True)
    remark = f"{answers.empty} of {len(answers.samples)} answers are empty" if answers.empty else ""
    return Outcome(planned.name, "asked", answers.score, remark=remark)


def _record(planned: _Planned, answers: Answers, settings: Settings) -> dict[str, Any]:
    benchmark = planned.benchmark
    judge = planned.known["judge"]
    return planned.known | {
        "identity": planned.identity,
        "title": benchmark.title,
        "score": answers.score,
        "metric": benchmark.score[0],
        "metrics": answers.metrics,
        "asked": len(answers.samples),
        "empty": answers.empty,
        "items": answers.items,
        "judge": None if judge is None else judge | {"answered_as": answers.judged_by},
        "task": benchmark.task,
        "task_changes": {"keys": task_keys(benchmark, settings.prompts), "why": benchmark.why},
        "versions": settings.environment.versions,
    }
