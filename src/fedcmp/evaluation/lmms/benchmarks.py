"""The seven benchmarks of the paper as lmms-eval knows them: task file, data, figures, judge.

The task files are lmms-eval's own; ours (tasks.py) include them and name a local dataset instead of a hub's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcmp.config.methods import unknown
from fedcmp.errors import UserError
from fedcmp.model.folders import EMBEDDED

SUITE = "llava7"


@dataclass(frozen=True)
class JudgePrompt:
    """Where lmms-eval keeps what it asks a judge.

    Attributes:
        file: under lmms_eval/tasks.
        constant: the Python constant that holds the prompt; empty: the whole file.
    """

    file: str
    constant: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: as the paper's tables and our own suites order and call them.
        title: for people.
        task: lmms-eval's task file, under lmms_eval/tasks.
        split: the split that the task asks for.
        columns: without which a dataset is another one.
        score: the metric that is the benchmark's figure, and the factor that makes it the paper's unit.
        details: further metrics that are kept, each with its factor.
        folders: names of a dataset's folder, lower case and without "-" and "_".
        places: folders inside it that may hold the split's parquet files.
        judge: the judge's prompt, or None where answers are judged by rule.
        prompted: whether the task takes a text before and after its question.
        own: what our task file says otherwise than lmms-eval's, and `why`.
    """

    name: str
    title: str
    task: str
    split: str
    columns: tuple[str, ...]
    score: tuple[str, float]
    details: Mapping[str, float]
    folders: tuple[str, ...]
    places: tuple[str, ...] = ("", "data")
    judge: JudgePrompt | None = None
    prompted: bool = True
    own: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    @property
    def task_name(self) -> str:
        """The name of our task file's task."""
        return f"fedcmp_{self.name.replace('-', '_')}"


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "mm-vet",
            "MM-Vet",
            "mmvet/mmvet.yaml",
            "test",
            ("question_id", "question", "answer", "capability", "image"),
            ("gpt_eval_score", 1),
            {},
            ("mmvet",),
            judge=JudgePrompt("mmvet/utils.py", "MM_VET_PROMPT"),
            own={
                "generation_kwargs": {"max_new_tokens": 1024, "temperature": 0, "num_beams": 1, "do_sample": False},
                "lmms_eval_specific_kwargs": {"default": {"pre_prompt": "", "post_prompt": ""}},
                "process_results": "!function fedcmp_task.mm_vet_marks",
            },
            why="lmms-eval samples at temperature 0.2 and asks for reasoning; here greedy, the question alone. A judge "
            "that marks outside 0 to 1 it asks again without end; here such a mark is none",
        ),
        Benchmark(
            "mmbench",
            "MMBench",
            "mmbench/mmbench_en_dev_static.yaml",
            "dev",
            ("index", "question", "hint", "answer", "A", "B", "category", "L2-category", "source", "split", "image"),
            ("gpt_eval_score", 1),
            {},
            ("mmbench",),
            places=("", "data", "en"),
            why="options are matched by rule instead of by a judge",
        ),
        Benchmark(
            "seed",
            "SEED-Bench",
            "seedbench/seedbench.yaml",
            "test",
            ("question_id", "question", "choice_a", "choice_b", "choice_c", "choice_d", "answer", "data_type", "image"),
            ("seed_image", 100),
            {"seed_all": 100, "seed_video": 100},
            ("seed", "seedbench"),
            prompted=False,
        ),
        Benchmark(
            "llava-bench",
            "LLaVA-Bench",
            "llava-in-the-wild/llava-in-the-wild.yaml",
            "train",
            ("question_id", "question", "category", "caption", "gpt_answer", "image"),
            ("gpt_eval_llava_all", 1),
            {"gpt_eval_llava_conv": 1, "gpt_eval_llava_detail": 1, "gpt_eval_llava_complex": 1},
            ("llavabench", "llavabenchinthewild", "llavainthewild"),
            judge=JudgePrompt("llava-in-the-wild/rule.json"),
        ),
        Benchmark(
            "pope",
            "POPE",
            "pope/pope.yaml",
            "test",
            ("question_id", "question", "answer", "category", "image"),
            ("pope_f1_score", 100),
            {"pope_accuracy": 100, "pope_precision": 100, "pope_recall": 100},
            ("pope",),
        ),
        Benchmark(
            "mme",
            "MME",
            "mme/mme.yaml",
            "test",
            ("question_id", "question", "answer", "category", "image"),
            ("mme_perception_score", 1),
            {"mme_cognition_score": 1},
            ("mme",),
        ),
        Benchmark(
            "mmvp",
            "MMVP",
            "mmvp/mmvp.yaml",
            "train",
            ("image",),  # the other columns go by several spellings
            ("mmvp_pair_accuracy", 100),
            {"mmvp_accuracy": 100},
            ("mmvp",),
        ),
    )
}


@dataclass(frozen=True)
class Prompts:
    """How questions are put to a model that was not tuned to follow lmms-eval's instructions.

    Attributes:
        before: the text before every question.
        after: the text behind it.
        options_inside: whether MMBench's question names its options itself, so that no lettered list follows.
        new_tokens: the longest answer; None: as the task says.
    """

    before: str
    after: str
    options_inside: bool = False
    new_tokens: int | None = None


# The embedded world's LLM answers questions in its own form with one word, then goes on with further questions.
LMMS_EVAL = "lmms-eval"
PROMPTS: dict[str, Prompts | None] = {
    LMMS_EVAL: None,  # each task's own
    EMBEDDED: Prompts("question : ", " answer :", options_inside=True, new_tokens=1),
}


def chosen_benchmarks(only: str | None) -> list[Benchmark]:
    """The benchmarks of a comma-separated list, in the paper's order; all seven without one.

    Raises:
        UserError: a name that none has, or a list without any.
    """
    if only is None:
        return list(BENCHMARKS.values())
    named = [name.strip() for name in only.split(",") if name.strip()]
    if not named:
        raise UserError(f"--only {only!r}: names no benchmark; there are {', '.join(BENCHMARKS)}")
    for name in named:
        if name not in BENCHMARKS:
            raise UserError(f"--only {only}: {unknown('benchmark', name, list(BENCHMARKS))}")
    return [benchmark for name, benchmark in BENCHMARKS.items() if name in named]


def prompts_named(name: str) -> Prompts | None:
    """One of PROMPTS; None is lmms-eval's own.

    Raises:
        UserError: there is none of that name.
    """
    if name not in PROMPTS:
        raise UserError(f"--prompts {name}: {unknown('form of prompts', name, list(PROMPTS))}")
    return PROMPTS[name]
