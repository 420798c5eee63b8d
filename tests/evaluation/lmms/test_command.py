import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS, PROMPTS
from fedcmp.evaluation.lmms.command import Question, lmms_command, lmms_variables, rows_asked
from fedcmp.evaluation.lmms.datasets import find_dataset
from fedcmp.evaluation.lmms.environment import probe
from fedcmp.evaluation.lmms.judge import Judge
from fedcmp.evaluation.lmms.tasks import task_hash, task_keys, write_task


def question(tmp_path, name="pope", **more):
    places = {key: tmp_path / key for key in ("model", "tasks", "output", "answers", "arrow")}
    return Question(benchmark=BENCHMARKS[name], device="cpu", **places, **more)


def test_the_command_names_device_map_and_the_answers_cache(fake, tmp_path):
    command = lmms_command(question(tmp_path), probe(fake.python))
    assert command[:4] == [str(fake.python), str(tmp_path / "tasks" / "launch.py"), "--model", "llava_hf"]
    assert f"pretrained={tmp_path / 'model'},device_map=cpu" in command
    assert command[command.index("--tasks") + 1] == "fedcmp_pope"
    assert command[command.index("--use_cache") + 1] == str(tmp_path / "answers")
    assert "--limit" not in command
    assert lmms_variables(question(tmp_path))["LMMS_CACHE_RUN_ID"] == "fedcmp"  # else each process has its own answers


def test_a_limit_does_not_part_pairs():
    assert rows_asked(BENCHMARKS["mme"], 3) == 4
    assert rows_asked(BENCHMARKS["mmvp"], 4) == 4
    assert rows_asked(BENCHMARKS["pope"], 3) == 3
    assert rows_asked(BENCHMARKS["mme"], None) is None


def test_a_path_that_their_arguments_cannot_hold_is_refused(fake, tmp_path):
    with pytest.raises(UserError, match="no path with ',' or '='"):
        lmms_command(question(tmp_path / "a=b"), probe(fake.python))


def test_only_a_benchmark_with_a_judge_is_told_of_one(tmp_path):
    judge = Judge("http://localhost/v1", "m")
    assert "MODEL_VERSION" not in lmms_variables(question(tmp_path, judge=judge))
    assert lmms_variables(question(tmp_path, "mm-vet", judge=judge))["MODEL_VERSION"] == "m"


def test_the_task_file_includes_theirs_and_names_local_data(fake, datasets, tmp_path):
    environment = probe(fake.python)
    mmbench = BENCHMARKS["mmbench"]
    write_task(tmp_path, mmbench, environment, find_dataset(mmbench, datasets, tmp_path), PROMPTS["world"])
    lines = (tmp_path / "fedcmp_mmbench.yaml").read_text().splitlines()
    keys = dict(line.split(": ", 1) for line in lines)
    assert json.loads(keys["include"]) == str(fake.tasks / mmbench.task)
    assert json.loads(keys["dataset_name"]) is None
    assert json.loads(keys["dataset_kwargs"])["data_files"]["dev"]
    assert keys["doc_to_text"] == "!function fedcmp_task.question_alone"
    namespace = {}
    exec((tmp_path / "fedcmp_task.py").read_text(), namespace)
    around = {"pre_prompt": "question : ", "post_prompt": " answer :"}
    assert namespace["question_alone"]({"question": " is it ? "}, around) == "question : is it ? answer :"


def test_the_task_hash_follows_prompts_and_lmms_evals_own_files(fake):
    environment = probe(fake.python)
    pope = BENCHMARKS["pope"]
    plain, world = task_hash(pope, environment, None), task_hash(pope, environment, PROMPTS["world"])
    assert plain != world
    (fake.tasks / "pope" / "utils.py").write_text("scored = 'otherwise'")
    assert task_hash(pope, environment, None) != plain
    (fake.tasks / "pope" / "pope.yaml").unlink()
    with pytest.raises(UserError, match=r"lmms-eval 0.7.3: has no task file pope/pope.yaml"):
        task_hash(pope, environment, None)


def test_a_task_without_another_form_of_prompts():
    with pytest.raises(UserError, match="takes no other form"):
        task_keys(BENCHMARKS["seed"], PROMPTS["world"])


def test_stopping_us_stops_lmms_eval(fake, tmp_path):
    """Ctrl-C reaches this process only, as the child has a session of its own: it must be ended by hand."""
    fake.python.write_text("#!/bin/sh\necho $$ > pid\nexec sleep 60\n")
    code = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell in the background has it ignored
        "from tests.evaluation.lmms.test_command import question\n"
        "from fedcmp.evaluation.lmms.command import run_lmms\n"
        "from fedcmp.evaluation.lmms.environment import Environment\n"
        f"work = Path({str(tmp_path)!r}); python = Path({str(fake.python)!r})\n"
        "run_lmms(question(work), Environment(python, work, {}, False), work / 'log')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    pid = tmp_path / "output" / "pid"
    for _ in range(600):
        if pid.exists() and pid.read_text().strip():
            break
        time.sleep(0.1)
    child = int(pid.read_text())
    process.send_signal(signal.SIGINT)
    process.wait(30)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
