"""What runs in lmms-eval's environment, here beside a package that stands for lmms-eval."""

import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedcmp.evaluation.lmms.child import fedcmp_task
from fedcmp.evaluation.lmms.child.launch import PIECE, in_pieces

LAUNCHER = Path(fedcmp_task.__file__).with_name("launch.py")
CACHE = """
class ResponseCache:
    def execute(self, lm, kind, requests):
        return [len(requests)]
    def _replay_audit_log(self):
        raise SystemExit("empty answers would come back")
"""
MAIN = """
import os, pathlib, sys, time
from lmms_eval.caching.response_cache import ResponseCache
ResponseCache()._replay_audit_log()
print(ResponseCache().execute(None, "generate_until", list(range(20))), sys.argv[1:])
if "--wait" in sys.argv:
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
"""


@dataclass
class Request:
    doc_id: int
    args: tuple = field(default=())


class KeepsAtTheEnd:
    """As lmms-eval's cache: asks for all that it does not have, then keeps it under a key made of the request."""

    def __init__(self):
        self.kept = {}

    def execute(self, lm, kind, requests):
        def key(request):
            return request.doc_id, tuple(sorted(request.args[1]))

        missing = [request for request in requests if key(request) not in self.kept]
        for request, answer in zip(missing, getattr(lm, kind)(missing), strict=True):
            self.kept[key(request)] = answer
        return [self.kept[key(request)] for request in requests]


class Model:
    """As llava_hf: fills in the generation settings of the request that it answers; may be stopped on the way."""

    def __init__(self, stops_at=None):
        self.asked, self.stops_at = [], stops_at

    def generate_until(self, requests):
        for request in requests:
            if request.doc_id == self.stops_at:
                raise KeyboardInterrupt
            request.arguments[1]["top_p"] = None
            self.asked.append(request.doc_id)
        return [str(request.doc_id) for request in requests]


def requests(count):
    return [Request(number, ("?", {"temperature": 0})) for number in range(count)]


def test_what_was_answered_before_a_stop_is_not_asked_again():
    cache, count = KeepsAtTheEnd(), 3 * PIECE + 5
    execute = in_pieces(KeepsAtTheEnd.execute)
    with pytest.raises(KeyboardInterrupt):
        execute(cache, Model(stops_at=2 * PIECE + 3), "generate_until", requests(count))
    again = Model()
    assert execute(cache, again, "generate_until", requests(count)) == [str(number) for number in range(count)]
    assert again.asked == list(range(2 * PIECE, count))


@pytest.fixture
def package(tmp_path):
    """A folder with an `lmms_eval` that can be started."""
    place = tmp_path / "site" / "lmms_eval" / "caching"
    place.mkdir(parents=True)
    for folder in (place, place.parent):
        (folder / "__init__.py").write_text("")
    (place / "response_cache.py").write_text(CACHE)
    (place.parent / "__main__.py").write_text(MAIN)
    return place.parents[1]


def start(package, *words):
    return subprocess.Popen(
        [sys.executable, str(LAUNCHER), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package)},
        start_new_session=True,
    )


def test_lmms_evals_command_runs_with_its_cache_in_pieces(package):
    with start(package, "--tasks", "x") as process:
        assert process.stdout.read() == "[16, 4] ['--tasks', 'x']\n"
        assert process.wait(60) == 0


def test_it_ends_with_the_process_that_started_it(package):
    with start(package, "--wait") as process:
        for _ in range(600):
            if (package / "pid").exists():
                break
            time.sleep(0.1)
        process.stdin.close()  # as when its holder was killed
        assert process.wait(30) == -signal.SIGKILL


@pytest.fixture
def mm_vet(monkeypatch):
    """Stands for lmms-eval's MM-Vet module: its judge says what `replies` holds; a mark outside is asked for again."""
    utils = types.ModuleType("lmms_eval.tasks.mmvet.utils")
    utils.replies = []
    utils.get_chat_response = lambda _prompt, **_: (utils.replies.pop(0), "little-judge")

    def process(_doc, _results):
        while True:
            content, model = utils.get_chat_response("?", temperature=0.0)
            score = float(content or 0)
            if not content or 0 <= score <= 1:
                return score, model

    utils.mmvet_process_results = process
    parent = types.ModuleType("lmms_eval.tasks.mmvet")
    parent.utils = utils
    for name, module in (("lmms_eval", types.ModuleType("lmms_eval")), ("lmms_eval.tasks", types.ModuleType("x"))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "lmms_eval.tasks.mmvet", parent)
    return utils


@pytest.mark.parametrize(
    ("reply", "marked"), [("0.5", (0.5, "little-judge")), ("5", (0.0, "")), ("-1", (0.0, "")), ("nan", (0.0, ""))]
)
def test_a_judge_that_marks_outside_is_asked_once(mm_vet, reply, marked):
    for _ in range(2):  # put in place once, whatever the number of answers
        mm_vet.replies = [reply]
        assert fedcmp_task.mm_vet_marks({}, ["answer"]) == marked
