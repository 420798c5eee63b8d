"""A run's files, as reports and resuming read them; those with checksums also with one that is right again.

tools/kills damages the files of a whole run and calls every command; here one file at a time gets other values.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fedcmp.checksums import sealed, sealed_toml, sha256
from fedcmp.config import dump_recipe, load_recipe, read_dumped
from fedcmp.errors import UserError
from fedcmp.federation.client_folder import ClientFolder
from fedcmp.preparation.setup_file import read_setup, write_setup
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page
from fedcmp.report.summary import comparison_table
from fedcmp.report.writing import render_markdown
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.runs.held_out import HeldOut
from fedcmp.runs.reading import load_runs
from fedcmp.runs.records import AnyRecord, Finished, Sample, read_line
from fedcmp.scenarios.manifest import Manifest
from fedcmp.shipped import shipped_recipe
from fedcmp.wire.messages import ClientState
from tools.fuzz.mutations import damaged_bytes, damaged_tree, json_text
from tools.fuzz.running import Fault, not_one_line

_ROUNDS = 3
_STATE = "checkpoints/round-0003/state.json"
_NAMES = ("kind", "round", "client", "client_name", "method", "split", "model", "caption_loss", "checksum", "files")
_CLIENT = "clients/a"
_PAGES = 50  # inputs per page that is drawn: it takes a second


class RunFiles:
    """One file of a run's folder."""

    name = "run-files"
    refusals: tuple[type[Exception], ...] = ()

    def __init__(self, work: Path) -> None:
        self._run = work / "run"
        self._whole = _written(self._run)

    def make(self, draw: random.Random) -> bytes:
        """Return a line with the file's name, and its damaged content; most checksums are right again."""
        name = draw.choice(sorted(self._whole))
        data = self._whole[name]
        if name.endswith(".toml"):
            text = data.decode().rpartition("# checksum")[0]
            damaged = damaged_bytes(draw, text.encode())
            return _named(name, sealed_toml(damaged.decode("utf-8", "replace")).encode() if _coin(draw) else damaged)
        if name.endswith(".safetensors") or draw.random() < 0.2:
            return _named(name, damaged_bytes(draw, data))
        if name.endswith(".jsonl"):
            lines = damaged_tree(draw, [json.loads(line) for line in data.splitlines()], _NAMES)
            return _named(
                name, "".join(json_text(line, draw) + "\n" for line in lines).encode("utf-8", "surrogatepass")
            )
        tree = damaged_tree(draw, json.loads(data), _NAMES)
        text = json_text(_sealed_again(tree) if draw.random() < 0.8 else tree, draw)
        return _named(name, text.encode("utf-8", "surrogatepass"))

    def feed(self, data: bytes) -> bool:
        """Put it into a whole run, and read that as reports, resuming, export and clients do."""
        name, _, content = data.partition(b"\n")
        shutil.rmtree(self._run, ignore_errors=True)
        for other, whole in self._whole.items():
            path = self._run / other
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if other == name.decode() else whole)
        state = json.loads(self._whole[_STATE])
        if name == b"metrics.jsonl":  # the checkpoint vouches for what is there now
            state |= {"metrics_bytes": len(content), "metrics_sha256": sha256(content)}
            (self._run / _STATE).write_text(json.dumps(sealed(state)))
        refused: list[UserError] = []
        for read in self._readers(draw_page=sum(data) % _PAGES == 0):
            try:
                read()
            except UserError as error:
                if problem := not_one_line(str(error)):
                    raise Fault(problem) from error
                refused.append(error)
        if refused:
            raise refused[0]
        return True

    def _readers(self, *, draw_page: bool) -> list[Callable[[], Any]]:
        run = RunFolder(self._run)
        return [
            lambda: self._report(draw_page=draw_page),
            lambda: read_dumped(self._run / "recipe.toml"),
            lambda: run.finished,
            run.last,
            run.lines,
            lambda: ClientFolder(self._run / _CLIENT).load(_ROUNDS),
            lambda: read_setup(self._run / "prepared"),
            lambda: Manifest.read(self._run / "manifest.json").hash(),
            run.resume,
        ]

    def _report(self, *, draw_page: bool) -> None:
        runs = load_runs(self._run)
        render_markdown(runs).encode()
        comparison = Comparison.of(runs)
        if draw_page:
            render_page(comparison, title=runs[0].name, refresh=0).encode()
        for cell in (cell for row in comparison_table(comparison).rows for cell in row.cells):
            cell.plain.encode()


def _coin(draw: random.Random) -> bool:
    return draw.random() < 0.7


def _named(name: str, content: bytes) -> bytes:
    return name.encode() + b"\n" + content


def _sealed_again(tree: Any) -> Any:
    """Values with checksums that are right again, where they can be written at all."""
    try:
        if isinstance(tree, list):
            return [_sealed_again(entry) if isinstance(entry, dict) else entry for entry in tree]
        return sealed(tree)
    except (TypeError, ValueError, RecursionError):  # hostile values that no library writes
        return tree


def _written(run: Path) -> dict[str, bytes]:
    """Write a small run by the package's own writers; return what each file holds."""
    folder = RunFolder(run)
    folder.begin(dump_recipe(load_recipe(shipped_recipe("demo").path)))
    HeldOut.add(run, "blind", 0, "test", [(2.5, 4), (3.5, 5), (1.5, 3)])
    folder.log([_line(line) for line in _BEFORE])
    for number in range(1, _ROUNDS + 1):
        HeldOut.add(run, "global", number, "test", [(2.0, 4), (3.0, 5), (1.0, 3)])
        folder.log([_line(line | {"round": number}) for line in _OF_A_ROUND])
        tensors = {"linear_1.weight": torch.full((2, 2), float(number))}
        folder.save(Checkpoint(number, {"global": tensors}, {"memory": torch.ones(2)}, {"method": "fedavg"}))
    folder.finish(Finished(seconds=3.0, ended=""))
    ClientFolder(run / _CLIENT).save(ClientState(_ROUNDS, residual={"b": torch.ones(2)}), continued=_ROUNDS - 1)
    sample = Sample(
        position=0, key="a", group="g", reference="a red house", image="samples/0.png", captions={"blind": "a"}
    )
    (run / "samples.json").write_text(json.dumps([sealed(sample.line())]))
    (run / "prepared").mkdir()
    held = [torch.arange(3).numpy(), torch.arange(3, 6).numpy()]
    (run / "manifest.json").write_text(json.dumps(Manifest(["a", "b"], held, {1: 4}, [[held[0]], [held[1]]]).content()))
    (run / "benchmarks").mkdir()
    (run / "benchmarks" / "pope.json").write_text(json.dumps(_BENCHMARK))
    write_setup(run / "prepared", {"pairs": 10, "groups": ["a", "b"], "sizes": [3, 4]})
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def _line(line: dict[str, Any]) -> AnyRecord:
    record = read_line(line)
    assert record is not None
    return record


_BENCHMARK = {"benchmark": "pope", "score": 80.5, "asked": 10, "items": 20, "limit": None, "round": 3, "empty": 1}
_BENCHMARK |= {"judge": {"model": "a", "prompt_sha256": "b" * 64}, "lmms_eval": "0.3", "prompts": None, "toy": True}
_MEASURED = {"kind": "evaluation", "split": "test", "caption_loss": 0.5, "group_losses": {"a": 0.4, "b": 0.6}}
_MEASURED |= {"question_accuracy": 0.5, "question_accuracy_by_kind": {"count": 0.5}, "questions_by_kind": {"count": 9}}
_MEASURED |= {"captions": 3, "seconds": 0.1, "client": None}
_SUITE = {"suite": "mme-world", "score": 0.5, "highest": 1, "chance": 0.2, "noise": 0.1, "units": 4, "detail": {"a": 1}}
_BEFORE: list[dict[str, Any]] = [
    {"kind": "run", "method": "fedavg", "federated": True, "rounds": 3, "clients": 2, "seed": 0, "learning_rate": 0.003,
     "versions": {"fedcmp": "1"}, "started": "2026-01-01T00:00:00+00:00", "machine": "2 cores", "parameters": 9},
    {"kind": "pairs", "name": "pairs.json", "read": 10, "train": 6, "held_out": 3, "judged": 3,
     "refused": {"missing": 1}, "unused": {}, "ignored": {"files": 2}, "captions_cut": 0},
    {"kind": "data", "client": 0, "client_name": "a", "num_pairs": 3, "bad_pairs": {"missing": 1},
     "wrong_captions": 0, "groups": {"a": 2, "b": 1}, "missing_pairs": 0},
    _MEASURED | {"model": "blind", "round": 0, "caption_loss": 0.9},
    _MEASURED | {"model": "initial", "round": 0, "caption_loss": 1.2},
    {"kind": "opening", "round": 1, "seconds": 0.1, "bytes_sent": 100},
]  # fmt: skip
_OF_A_ROUND: list[dict[str, Any]] = [
    {"kind": "client", "client": client, "client_name": name, "loss": 0.5, "loss_first": 0.6, "loss_last": 0.4,
     "num_examples": 10, "alignment_error": 0.2, "update_norm": 0.1, "learning_rate": 0.003, "bytes_up": 100,
     "bytes_down": 100, "seconds": 0.5, "weight": 0.5, "arrived": 0.6}
    for client, name in enumerate(("a", "b"))
] + [
    {"kind": "round", "seconds": 1.0, "bytes_sent": 400, "diagnostics": {"w: rank": 2.0}, "missing": ["c"],
     "opened": "2026-01-01T00:00:00+00:00", "waited": 2.0},
    {"kind": "site", "client": 1, "client_name": "b", "event": "late", "detail": "", "seconds": 3.0, "bytes": 100},
    _MEASURED | {"model": "global", "suites": {"mme-world": _SUITE}},
]  # fmt: skip
