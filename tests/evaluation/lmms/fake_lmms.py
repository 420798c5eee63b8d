"""A stand-in for the python of lmms-eval's environment: an executable that answers the probe and writes its files.

What it comes to is planned by `say` and `breaks`; `calls` gives every evaluation's arguments, variables and folder.
"""

import json
import sys
from pathlib import Path

from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS

_SCRIPT = """#!{python}
import json, os, pathlib, sys
home = pathlib.Path({home!r})
plan = json.loads((home / "plan.json").read_text())
if sys.argv[1] == "-c":
    found = {{"versions": plan["versions"], "origin": plan["origin"], "cuda": False}}
    if plan.get("broken"):
        found["broken"] = plan["broken"]
    print("a library says hello")
    print("fedcmp:" + json.dumps(found))
    sys.exit()
words = sys.argv[2:]
def after(name):
    return words[words.index(name) + 1] if name in words else None
with open(home / "calls", "a") as calls:
    of_note = ("OPENAI", "MODEL_", "HF_", "API_TYPE", "PYTHONPATH")
    told = {{k: v for k, v in os.environ.items() if k.startswith(of_note)}}
    calls.write(json.dumps([words, told, os.getcwd()]) + "\\n")
task = after("--tasks")
said = plan["tasks"].get(task)
if said is None:
    print("\\x1b[31mTraceback\\x1b[0m\\nRuntimeError: this task is broken")
    sys.exit(0)  # as lmms-eval does
print(said.get("log", ""))
place = pathlib.Path(after("--output_path")) / "model"
place.mkdir(parents=True)
(place.parent / "submissions").mkdir()
(place.parent / "submissions" / "mmbench_en_dev_static_results.json").write_text("{{}}")
rows = said["samples"][: int(after("--limit") or len(said["samples"]))]
figures = {{f"{{name}},none": value for name, value in said["figures"].items()}}
(place / "20260101_000000_results.json").write_text(
    json.dumps({{"results": {{task: figures}}, "n-samples": {{task: {{"original": len(said["samples"])}}}}}})
)
with open(place / f"20260101_000000_samples_{{task}}.jsonl", "w") as file:
    for row in rows:
        file.write(json.dumps(row) + "\\n")
"""


class FakeLmms:
    """The executable, its plan and its calls."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)
        tasks = home / "lmms_eval" / "tasks"
        for benchmark in BENCHMARKS.values():
            file = tasks / benchmark.task
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"task: {benchmark.name}\n")
        (tasks / "mmvet" / "utils.py").write_text('import nothing_there\nMM_VET_PROMPT = """Compare."""\n')
        (tasks / "llava-in-the-wild" / "rule.json").write_text('{"llava_bench_conv": {"prompt": "Rate."}}')
        self.plan = {
            "versions": {"lmms-eval": "0.7.3", "torch": "2", "decord": "0.6.0"},
            "origin": str(home / "lmms_eval" / "__init__.py"),
            "tasks": {},
        }
        self.python = home / "python"
        self.python.write_text(_SCRIPT.format(python=sys.executable, home=str(home)))
        self.python.chmod(0o755)
        for name, benchmark in BENCHMARKS.items():
            self.say(name, {benchmark.score[0]: 0.5}, judged=benchmark.judge is not None)

    @property
    def tasks(self) -> Path:
        return self.home / "lmms_eval" / "tasks"

    def say(self, name: str, figures: dict, *, judged: bool = False, log: str = "") -> None:
        """What lmms-eval comes to for a benchmark: its figures and four answers, the first of them empty."""
        benchmark = BENCHMARKS[name]
        made = [
            {"doc_id": i, "input": f"question {i}", "target": "yes", "filtered_resps": ["yes" if i else ""]}
            | ({benchmark.score[0]: {"score": 0.5, "eval_model": "little-judge"}} if judged else {})
            for i in range(4)
        ]
        self.plan["tasks"][benchmark.task_name] = {"figures": figures, "samples": made, "log": log}
        self.write()

    def breaks(self, name: str) -> None:
        """A benchmark on which lmms-eval fails."""
        del self.plan["tasks"][BENCHMARKS[name].task_name]
        self.write()

    def write(self) -> None:
        (self.home / "plan.json").write_text(json.dumps(self.plan))

    def calls(self) -> list[tuple[list[str], dict[str, str], str]]:
        """Arguments, variables and working folder of each evaluation."""
        path = self.home / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def asked(self) -> list[str]:
        """The tasks, in order."""
        return [words[words.index("--tasks") + 1] for words, _, _ in self.calls()]
