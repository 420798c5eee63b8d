"""Who takes part in a run, on the server's disk: the run's name, what each site said of itself, where its pairs begin.

    sites.json   {"run": ..., "attempt": ..., "sites": {name: {"admission": {...}, "first_position": ..., ...}}}

A site's usable pairs begin where those of the sites before it end, in the order in which they were admitted (the
recipe's at first): the order of its pairs is then what it would be on one machine that holds all.
"""

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.wire.naming import MessageError
from fedcmp.wire.site_messages import Admission, Holding

_FEW = 50  # sites: of so many each change is written at once


@dataclass(frozen=True)
class Member:
    """One site that takes part.

    Attributes:
        admission: what it said of itself.
        first_position: how many usable pairs the sites before it hold; None until that is known.
        holding: what it holds as that client; None until it has said so.
    """

    admission: Admission
    first_position: int | None = None
    holding: Holding | None = None


class Register:
    """The members of one run.

    Args:
        path: sites.json; made by the first `begin`.
        names: of the sites, in the recipe's order: client numbers.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self.names = path, names
        self.run, self.attempt = "", 0
        self.members: dict[int, Member] = {}
        self._not_before = 0.0  # of the monotonic clock
        self._unwritten = False

    def begin(self) -> None:
        """Read what is there, and begin another attempt at the run: requests of an earlier one are over.

        Raises:
            UserError: the file is damaged.
        """
        if self._path.exists():
            self._read()
        else:
            self.run = secrets.token_hex(16)
        self.attempt = max(self.attempt + 1, int(time.time()))  # a folder restored from a copy does not go back
        self._write()

    def admit(self, client: int, admission: Admission) -> None:
        """Take a site in, or know it again.

        Raises:
            UserError: it has other pairs than when the run began, or other models than the other sites.
        """
        name, known = self.names[client], self.members.get(client)
        if known is not None and known.admission.usable != admission.usable:
            raise UserError(
                f"{name}: has {admission.usable:,} usable pairs, and had {known.admission.usable:,} when the run "
                "began: restore them, or begin a new run"
            )
        if known is not None:
            self._compare(name, admission, "it had when the run began", known.admission)
        for other, member in self.members.items():
            if other != client:  # one is enough: they have been compared with each other
                self._compare(name, admission, f"of {self.names[other]}", member.admission)
                break
        if known is None:
            self.members[client] = Member(admission)
            self._write_soon()

    def placement(self, client: int) -> int:
        """Return how many usable pairs come before this site's, and keep that."""
        self.place([client])
        position = self.members[client].first_position
        assert position is not None
        return position

    def place(self, clients: Iterable[int]) -> None:
        """Settle where the pairs of these sites begin, one after the other, where it is not; on disk afterwards."""
        placed = [m for m in self.members.values() if m.first_position is not None]
        position, changed = sum(m.admission.usable for m in placed), False
        for client in clients:
            member = self.members[client]
            if member.first_position is None:
                self.members[client] = Member(member.admission, position, member.holding)
                position, changed = position + member.admission.usable, True
        if changed:
            self._write()

    def hold(self, client: int, holding: Holding) -> None:
        """Keep what a site holds.

        Raises:
            UserError: it says something else than before, or more than it can have.
        """
        member, name = self.members[client], self.names[client]
        if holding.train > member.admission.usable:
            raise UserError(f"{name}: trains on {holding.train:,} of {member.admission.usable:,} usable pairs")
        if member.holding is not None and member.holding.train != holding.train:
            raise UserError(f"{name}: trains on {holding.train:,} pairs, and on {member.holding.train:,} before")
        self.members[client] = Member(member.admission, member.first_position, holding)
        self._write_soon()

    @property
    def pairs(self) -> list[int]:
        """Pairs to train on of each site that takes part, by client number."""
        return [m.holding.train for _, m in sorted(self.members.items()) if m.holding is not None]

    def _compare(self, name: str, own: Admission, theirs: str, other: Admission) -> None:
        for what, mine, known in (
            ("vision", (own.vision, own.vision_width), (other.vision, other.vision_width)),
            ("language", (own.language, own.text_width), (other.language, other.text_width)),
        ):
            if mine != known:
                raise UserError(
                    f"{name}: its model.{what} is not that {theirs} (other weights, data type, tokenizer or "
                    "layers): all sites need the same frozen parts"
                )

    def _read(self) -> None:
        try:
            content: Mapping[str, object] = json.loads(self._path.read_text(encoding="utf-8"))
            self.run, self.attempt = str(content["run"]), int(str(content["attempt"]))
            sites = content["sites"]
            assert isinstance(sites, dict)
            for name, entry in sites.items():
                holding = entry["holding"]
                self.members[self.names.index(name)] = Member(
                    Admission.model_validate(entry["admission"]),
                    entry["first_position"],
                    Holding.model_validate(holding) if holding else None,
                )
        except (OSError, ValueError, KeyError, TypeError, AssertionError, MessageError) as error:
            raise UserError(f"{self._path}: damaged ({error}); restore it, or begin the run again") from error

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self._unwritten:
            self._write()

    def _write_soon(self) -> None:
        """Write, if that takes a twentieth of the time at most: what is lost in a kill is asked for again."""
        self._unwritten = True
        if len(self.members) <= _FEW or time.monotonic() >= self._not_before:
            self._write()

    def _write(self) -> None:
        begun, self._unwritten = time.monotonic(), False
        sites = {
            self.names[client]: {
                "admission": member.admission.model_dump(),
                "first_position": member.first_position,
                "holding": member.holding.model_dump() if member.holding else None,
            }
            for client, member in sorted(self.members.items())
        }
        content = {"run": self.run, "attempt": self.attempt, "sites": sites}
        write_whole(self._path, json.dumps(content, indent=1).encode())
        self._not_before = time.monotonic() + 19 * (time.monotonic() - begun)
