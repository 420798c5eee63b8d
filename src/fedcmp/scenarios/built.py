"""A scenario on disk: which ids each client trains on in which round, readable without this package.

    scenario/manifest.json                     what it was made of and how, sizes, a sha256 of every list
    scenario/clients/client-0/round-01.txt     the ids of one round, one a line
    scenario/clients/client-0/held-out.txt     the ids that the client keeps for evaluation
    scenario/centroids.safetensors             image, text (K, E): normalised means of each client's kept embeddings
    scenario/inputs.json                       where the embeddings and their source lay; no part of the scenario

The same embeddings, options and versions give the same bytes. A client's share (`split`) is a scenario with one client.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedcmp.errors import UserError
from fedcmp.files import TEMPORARY, write_whole

FORMAT = 1
MANIFEST, CENTROIDS, INPUTS = "manifest.json", "centroids.safetensors", "inputs.json"
CLIENTS, HELD_OUT = "clients", "held-out.txt"
_AGAIN = "build the scenario again"


@dataclass(frozen=True)
class ClientShare:
    """One client's ids.

    Attributes:
        name: also of its folder.
        rounds: ids of each round; batches are made of like caption lengths, so not in this order.
        held_out: ids kept for evaluation.
        pruned: samples of its cluster that were left out, being furthest from the centroid.
    """

    name: str
    rounds: tuple[tuple[str, ...], ...]
    held_out: tuple[str, ...] = ()
    pruned: int = 0

    @property
    def size(self) -> int:
        """Ids that it trains on."""
        return sum(map(len, self.rounds))


@dataclass(frozen=True)
class BuiltScenario:
    """Who holds what.

    Attributes:
        options: how it was cut: similarity, division, clients, cap, rounds, seed, ...
        embeddings: what it was cut from: fingerprint, model, the source's name and fingerprint, pairs, width.
        clients: the shares.
        centroids: "image", "text" -> (K, E) float32.
        facts: what came out beside the shares: objective, trace and starts of the clustering.
        versions: of the packages that took part.
        inputs: "embeddings", the folder, and "source", how to open it; {} where nobody knows.
    """

    options: dict[str, Any]
    embeddings: dict[str, Any]
    clients: tuple[ClientShare, ...]
    centroids: dict[str, NDArray[np.float32]]
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people: "image, 5 clients"."""
        similarity, division = self.options.get("similarity", "?"), self.options.get("division", "clusters")
        what = similarity if division == "clusters" else division
        return f"{what}, {len(self.clients)} client{'s' if len(self.clients) != 1 else ''}"

    @property
    def hash(self) -> str:
        """sha256 of embeddings, options and who holds what."""
        known = [self.embeddings, self.options, [_described(client) for client in self.clients]]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the folder, whole or not at all.

        Raises:
            UserError: it is there already and `overwrite` is false; it cannot be written.
        """
        folder = Path(folder)
        check_place(folder, overwrite=overwrite)
        new = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY}")
        old = folder.with_name(f"{folder.name}.old.{os.getpid()}{TEMPORARY}")
        try:
            for client in self.clients:
                place = new / CLIENTS / client.name
                place.mkdir(parents=True)
                for name, ids in _lists(client):
                    (place / name).write_bytes(_lines(ids))
            (new / CENTROIDS).write_bytes(save({part: self.centroids[part] for part in sorted(self.centroids)}))
            write_whole(new / INPUTS, (json.dumps(self.inputs, indent=1) + "\n").encode())
            write_whole(new / MANIFEST, (json.dumps(self._content(), indent=1, ensure_ascii=False) + "\n").encode())
            if folder.exists():
                folder.rename(old)  # removed only when the new one stands in its place
            new.rename(folder)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}): check the disk's space and rights"
            ) from None
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for left_over in (new, old):
                shutil.rmtree(left_over, ignore_errors=True)

    def share(self, number: int, *, share_of: str | None = None) -> "BuiltScenario":
        """One client's share: a scenario of its own; `share_of` saves working out the whole's hash again."""
        centroids = {part: rows[number : number + 1] for part, rows in self.centroids.items()}
        facts = {"share_of": share_of or self.hash}
        return BuiltScenario(self.options, self.embeddings, (self.clients[number],), centroids, facts, self.versions)

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "hash": self.hash,
            "options": self.options,
            "embeddings": self.embeddings,
            "clients": [_described(client) for client in self.clients],
            "facts": self.facts,
            "versions": self.versions,
        }

    @classmethod
    def read(cls, folder: Path) -> "BuiltScenario":
        """Open a scenario and check every list against its sha256.

        Raises:
            UserError: no scenario, or a file that is missing or was changed; names it.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise UserError(f"{path}: format {content['format']}, not {FORMAT}: {_AGAIN}")
            clients = tuple(_read_client(folder, described) for described in content["clients"])
            centroids = load((folder / CENTROIDS).read_bytes())
            return cls(
                content["options"],
                content["embeddings"],
                clients,
                {part: np.asarray(rows, np.float32) for part, rows in centroids.items()},
                content["facts"],
                content["versions"],
                json.loads((folder / INPUTS).read_text(encoding="utf-8")) if (folder / INPUTS).exists() else {},
            )
        except FileNotFoundError as error:
            missing = Path(error.filename or path)
            raise UserError(
                f"{missing}: not there: is {folder} a scenario? `fedcmp scenario build` makes one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RecursionError) as error:
            raise UserError(f"{path}: no readable scenario ({error}): {_AGAIN}") from None


def split(scenario: BuiltScenario, out: Path) -> list[Path]:
    """Write each client's share under its name.

    Args:
        scenario: the whole.
        out: a new folder.

    Returns:
        The shares' folders.

    Raises:
        UserError: a folder of that name is there; it cannot be written.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is there already: choose another --out")
    new, whole = out.with_name(f"{out.name}.{os.getpid()}{TEMPORARY}"), scenario.hash
    try:
        new.mkdir(parents=True)
        for number, client in enumerate(scenario.clients):
            scenario.share(number, share_of=whole).write(new / client.name)
        if out.exists():
            out.rmdir()
        new.rename(out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}): check the disk's space and rights") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return [out / client.name for client in scenario.clients]


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write where something else is.

    Raises:
        UserError: a scenario is there and `overwrite` is false, or anything else is.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise UserError(f"{folder}: is there already: choose another --out, or give --overwrite")
    if not folder.is_dir() or (any(folder.iterdir()) and not _is_scenario(folder)):
        raise UserError(f"{folder}: is no scenario, so it is not overwritten: choose another --out")


def _is_scenario(folder: Path) -> bool:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"hash", "options", "embeddings", "clients"} <= content.keys()


def _lists(client: ClientShare) -> Iterator[tuple[str, Sequence[str]]]:
    for number, ids in enumerate(client.rounds, start=1):
        yield f"round-{number:02d}.txt", ids
    yield HELD_OUT, client.held_out


def _lines(ids: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in ids).encode()


def _described(client: ClientShare) -> dict[str, Any]:
    return {
        "name": client.name,
        "pairs": client.size,
        "rounds": [len(ids) for ids in client.rounds],
        "held_out": len(client.held_out),
        "pruned": client.pruned,
        "sha256": {name: hashlib.sha256(_lines(ids)).hexdigest() for name, ids in _lists(client)},
    }


def _read_client(folder: Path, described: dict[str, Any]) -> ClientShare:
    found: dict[str, tuple[str, ...]] = {}
    for name in (described["name"], *described["sha256"]):
        if not name or Path(name).name != name:  # a received manifest must not reach out of its folder
            raise UserError(f"{folder / MANIFEST}: {name!r} is no plain name: {_AGAIN}")
    for name, expected in described["sha256"].items():
        path = folder / CLIENTS / described["name"] / name
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(f"{path}: was changed since the scenario was built: restore it, or {_AGAIN}")
        found[name] = tuple(content.decode().split("\n")[:-1])
    held_out = found.pop(HELD_OUT, ())
    rounds = tuple(found.values())  # in the order of the manifest
    return ClientShare(described["name"], rounds, held_out, int(described["pruned"]))
