"""Every file of a run damaged in every way, and every command that reads a run called on it.

A command must end in one line that names a mistake, or give what it gives on the whole run. In this process: a command
takes a second then.
"""

import contextlib
import hashlib
import io
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file

from tools.kills.runs import NAME, finish, outcome, place, start, write_recipe

METHOD = "moon"  # its clients keep a state
REFUSED, SAME, DIFFERENT, FAILED = "one line", "the same", "different", "failed"
# verb -> its arguments in the run's folder; {run} is the run
VERBS = {
    "train --resume": ["train", "recipe.toml", "--resume"],
    "report": ["report", "{run}", "--out", "page"],
    "evaluate": ["evaluate", "{run}"],
    "export": ["export", "{run}", "exported"],
    "export --projector-only": ["export", "{run}", "projector.safetensors", "--projector-only"],
    "track": ["track", "{run}"],
}
_NOT_READ = ("report/", "tensorboard/")  # written for people, and anew each time
_OF_THE_SERVER = ("records", "state", "projector.safetensors", "server.safetensors")
Say = Callable[[str], None]


@dataclass
class Swept:
    """What became of one verb.

    Attributes:
        verb: the verb.
        ends: how often it ended how.
        wrong: each damage after which it failed or gave something else, with what it said.
    """

    verb: str
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def sweep(work: Path, *, seed: int, flips: int, say: Say) -> dict[str, list[Swept]]:
    """Damage a finished and an interrupted run, file by file.

    Args:
        work: an empty folder.
        seed: of the bits that are flipped.
        flips: bits that are flipped in each file, one at a time.
        say: receives a line per file.

    Returns:
        "finished" and "interrupted" -> one entry per verb.
    """
    os.environ["FEDCMP_CACHE"] = str(work / "cache")
    write_recipe(work / "finished", methods=[METHOD], workers=1, clients=2, pairs=60)
    finish(work / "finished", work / "cache")
    shutil.rmtree(place(work / "finished") / "report")
    interrupted = _interrupt(work / "interrupted", work / "cache")
    verbs = {"finished": list(VERBS), "interrupted": ["train --resume", "report"]}
    folders = {"finished": work / "finished", "interrupted": interrupted}
    return {
        name: _sweep_one(folder, work / "case", verbs[name], random.Random(f"{seed} {name}"), flips, say)
        for name, folder in folders.items()
    }


def _sweep_one(whole: Path, case: Path, verbs: list[str], draw: random.Random, flips: int, say: Say) -> list[Swept]:
    swept = {verb: Swept(verb) for verb in verbs}
    expected = {}
    for verb in verbs:
        code, _, expected[verb] = _tried(whole, case, verb, lambda _run: None)
        assert code == 0, f"{verb} on the whole run"
    names = [path.relative_to(place(whole)).as_posix() for path in sorted(place(whole).rglob("*")) if path.is_file()]
    for name in (name for name in names if not name.startswith(_NOT_READ)):
        for what, damage in damages(place(whole) / name, draw, flips):
            for verb in verbs:
                code, said, given = _tried(whole, case, verb, lambda run, n=name, d=damage: d(run / n))  # type: ignore[misc]
                end = _end(code, said, given == expected[verb])
                swept[verb].ends[end] += 1
                if end in (DIFFERENT, FAILED):
                    swept[verb].wrong.append(f"{verb}, {name} {what}: {end}: {said[-300:]}")
                    say(swept[verb].wrong[-1])
        say(f"{name}: done")
    return list(swept.values())


def damages(path: Path, draw: random.Random, flips: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """What is done to one file: name and deed."""
    content = path.read_bytes()
    yield "removed", lambda file: file.unlink()
    yield "emptied", lambda file: _write(file, b"")
    if content:
        yield "cut in half", lambda file: _write(file, content[: len(content) // 2])
    for _ in range(flips if content else 0):
        place_ = draw.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[place_ // 8] ^= 1 << place_ % 8
        yield f"bit {place_} flipped", lambda file, new=bytes(flipped): _write(file, new)  # type: ignore[misc]


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _tried(whole: Path, case: Path, verb: str, damage: Callable[[Path], None]) -> tuple[int, str, object]:
    """Call a verb on a damaged copy; exit code, what it said to stderr, and what it gave."""
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(whole, case)
    damage(place(case))
    run = (Path("runs") / NAME).as_posix()
    code, out, said = call([argument.format(run=run) for argument in VERBS[verb]], case)
    given = _given(verb, whole, case, out) if code == 0 else None
    return code, said, given


def _given(verb: str, whole: Path, copy: Path, out: str) -> object:
    """What a verb gave, in a form that can be compared."""
    match verb:
        case "train --resume":
            return _trained(place(copy), with_clients=whole.name == "interrupted")
        case "report":
            return (copy / "page" / "tables.md").read_text()
        case "evaluate":
            return out
        case "export":
            return _hashes(copy / "exported")
        case "export --projector-only":
            return _tensors(copy / "projector.safetensors")
    return None


def _trained(run: Path, *, with_clients: bool) -> dict[str, str]:
    """What a resumed run leaves; of one that was finished, what its clients keep and its samples are not looked at."""
    left = outcome(run)
    return left if with_clients else {key: value for key, value in left.items() if key.endswith(_OF_THE_SERVER)}


def call(arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """Run `fedcmp ARGUMENTS` in this process and a folder; exit code, stdout, stderr. A traceback is code 1."""
    from fedcmp.cli.main import main

    before, argv, handler = Path.cwd(), sys.argv, signal.getsignal(signal.SIGTERM)
    out, said = io.StringIO(), io.StringIO()
    try:
        os.chdir(folder)
        sys.argv = ["fedcmp", *arguments]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        code = 1
        said.write(f"Traceback: {error!r}")
    finally:
        os.chdir(before)
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    return code, out.getvalue(), said.getvalue()


def _end(code: int, said: str, same: bool) -> str:
    if code == 0:
        return SAME if same else DIFFERENT
    lines = [line for line in said.splitlines() if line.startswith("fedcmp: ")]
    return REFUSED if code == 2 and len(lines) == 1 and "Traceback" not in said else FAILED


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _tensors(path: Path) -> dict[str, object]:
    """What a file holds: safetensors writes the entries of its metadata in any order."""
    return {name: tensor.tolist() for name, tensor in load_file(path).items()}


def _interrupt(folder: Path, cache: Path) -> Path:
    """A run that was killed in the middle of a client's part in its second round."""
    write_recipe(folder, methods=[METHOD], workers=1, clients=3)
    process = start(folder, cache)
    run = place(folder)
    while not (any(run.glob("waiting/round-0002/*")) and any(run.glob("clients/*/part*"))):
        if process.poll() is not None:
            raise RuntimeError(f"the run ended before it could be killed: {process.communicate()[1]}")
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return folder
