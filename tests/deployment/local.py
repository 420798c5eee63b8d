"""A federation in one process: real trainers behind a link that loses, delays and repeats what a test tells it to."""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fedcmp.config import Recipe, parse_recipe
from fedcmp.deployment import trainer
from fedcmp.deployment.site_file import Site
from fedcmp.deployment.trainer import Trainer
from fedcmp.federation.flower.link import Lost
from fedcmp.wire.site_messages import Frame
from fedcmp.world.export import export_world

NAMES = ["north", "south", "west"]
COUNTS = {"north": 60, "south": 48, "west": 40}
FORMATS = {"north": "llava", "south": "webdataset", "west": "parquet"}
SPLITS = {"north": "train", "south": "validation", "west": "test"}


_LOADING = threading.Lock()


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers cannot load two models in two threads of a process, which no real site does."""

    def locked(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            with _LOADING:
                return function(*given, **named)

        return call

    # while one model is loaded, the default dtype of all threads is that of its weights: no projector may be made then
    for name in ("load_language", "prepare_site", "admission", "SiteEngine"):
        monkeypatch.setattr(trainer, name, locked(getattr(trainer, name)))


@cache
def _exported(folder: Path, name: str, format: str) -> Path:
    return export_world(folder, split=SPLITS[name], count=COUNTS[name], format=format, picture="png")


def pairs_of(root: Path, name: str, format: str | None = None) -> dict[str, object]:
    """The keys of [data] that name one site's own files, each in another format unless one is given."""
    format = format or FORMATS[name]
    folder = root / f"{name}-{format}"
    _exported(folder, name, format)
    if format == "llava":
        return {"format": "llava", "pairs": str(next(folder.glob("*.json"))), "images": str(folder / "images")}
    suffix = {"webdataset": "*.tar", "parquet": "*.parquet"}[format]
    return {"format": format, "pairs": [str(path) for path in sorted(folder.glob(suffix))]}


def site_of(root: Path, name: str, state: Path, **sections: dict[str, object]) -> Site:
    """One site's SITE.toml."""
    identity = {"name": name, "server": "127.0.0.1:9000", "folder": str(state)}
    return Site.model_validate(
        {"site": identity, "data": pairs_of(root, name), "limits": {"save_seconds": 0.01}} | sections
    )


def recipe_of(folder: Path, *methods: str, **changes: dict[str, object]) -> Recipe:
    """The server's recipe."""
    content: dict[str, dict[str, object]] = {
        "run": {"name": "run", "folder": str(folder), "methods": list(methods), "seed": 3},
        "federation": {"rounds": 2, "min_clients": 3},
        "data": {"held_out": 0.2},
        "training": {"batch_size": 8, "learning_rate": 1e-3},
        "evaluation": {"captions": 60},
        "deployment": {"sites": NAMES, "poll_seconds": 60.0},
    }
    for section, own in changes.items():
        content[section] = content.get(section, {}) | own
    return parse_recipe(content, "test")


class LocalLink:
    """A Link to trainers in threads of this process.

    Args:
        trainers: site -> its trainer.
        fault: called with (site, frame) for every message; returns "" to let it pass, "lose" (an error comes back),
            "vanish" (nothing does), "twice" (its answer comes twice) or "offline" (the site cannot be reached for it).
    """

    def __init__(self, trainers: dict[str, Trainer], fault: Callable[[str, Frame], str] = lambda *_: "") -> None:
        self.trainers, self.fault = trainers, fault
        self.down: set[str] = set()
        self.frames: list[tuple[str, Frame]] = []
        self._answers: dict[str, queue.SimpleQueue[Frame | Lost]] = {}
        self._number = 0

    def online(self) -> frozenset[str]:
        return frozenset(self.trainers) - self.down

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        self._number += 1
        number = str(self._number)
        answers = self._answers[number] = queue.SimpleQueue()
        self.frames.append((site, frame))
        fate = self.fault(site, frame)
        if fate == "lose":
            answers.put(Lost("the message was lost"))
        elif fate != "vanish":

            def work() -> None:
                answer = self.trainers[site].answer(*frame)
                for _ in range(2 if fate == "twice" else 1):
                    answers.put(answer)

            threading.Thread(target=work, daemon=True).start()
        else:
            threading.Timer(min(seconds, 0.5), lambda: answers.put(Lost("no answer in time"))).start()
        return number

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame | Lost]]:
        for number in list(sent):
            try:
                yield number, self._answers[number].get_nowait()
            except queue.Empty:
                continue


def short_sleep(seconds: float) -> None:
    """Waits a little, whatever was asked."""
    time.sleep(min(seconds, 0.02))
