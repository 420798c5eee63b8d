"""One run as a site keeps it: the server's recipe, which client the site is, replies, and what the client remembers.

    runs/RUN/recipe.toml            as the server sent it, and its checksum; damaged, it counts as not there
    runs/RUN/placement.json         client, first_position
    runs/RUN/ticket.json            of the last request that was answered: an earlier one is none
    runs/RUN/prepared-POSITION/     pairs as that client trains on them
    runs/RUN/methods/METHOD/        the client's states, the middle of a part (federation/client_folder.py)
    runs/RUN/methods/METHOD/reply.safetensors   the last reply: a server that asks again gets the same

A site that loses this folder is placed anew; what its clients remembered is then gone.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from fedcmp.config import Recipe
from fedcmp.deployment.refusals import Declined
from fedcmp.deployment.site_file import Site
from fedcmp.deployment.site_recipe import site_recipe
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.wire.files import read_message, write_message
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import MessageError

_SEAL = len("\n# ") + 64 + len("\n")  # bytes behind the recipe's text


class Place(NamedTuple):
    """Which client a site is, and how many usable pairs the clients before it hold."""

    client: int
    first_position: int


class SiteRun:
    """One run's folder at a site.

    Args:
        site: SITE.toml.
        run: the run's name, as the server chose it: hexadecimal digits.
    """

    def __init__(self, site: Site, run: str) -> None:
        self._site = site
        self.folder = site.site.folder / "runs" / run
        self._recipe_file = self.folder / "recipe.toml"
        self._ticket = self._read_ticket()

    @property
    def known(self) -> bool:
        """Whether the server's recipe is here, whole."""
        return self._read_recipe() is not None

    def accept(self, text: str) -> None:
        """Keep the server's recipe.

        Raises:
            Declined: the run was begun with another one.
        """
        if self._read_recipe() not in (None, text):
            raise Declined("the run's recipe changed since it began; a changed recipe is a new run")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._recipe_file, text.encode() + _seal(text))
        self._keep_ticket()

    def text(self) -> str:
        """Return the server's recipe as it came.

        Raises:
            UserError: it has gone, or is damaged.
        """
        text = self._read_recipe()
        if text is None:
            raise UserError(f"{self._recipe_file}: gone, or damaged, since the request came")
        return text

    def recipe(self) -> Recipe:
        """Return the recipe by which the site works."""
        return site_recipe(self.text(), self._site, self.folder)

    def is_late(self, ticket: tuple[int, int]) -> bool:
        """Return whether a later request was there already; if not, note this one."""
        if ticket < self._ticket:
            return True
        self._ticket = ticket
        if self.known:
            self._keep_ticket()
        return False

    def check_place(self, place: Place) -> None:
        """Refuse to become another client within a run: pairs that were held out would be trained on.

        Raises:
            Declined: the site is another client already, or has other pairs before its own.
        """
        known = self.placed
        if known is not None and known != place:
            raise Declined(
                f"this site is client {known.client} of the run, after {known.first_position:,} pairs of others; it "
                f"cannot become client {place.client} after {place.first_position:,}"
            )

    def place(self, place: Place) -> None:
        """Keep which client the site is."""
        write_whole(self.folder / "placement.json", json.dumps(place._asdict()).encode())

    @property
    def placed(self) -> Place | None:
        """Which client the site is; None: it has not been told, or the file is damaged, and the server tells again."""
        try:
            content = json.loads((self.folder / "placement.json").read_text(encoding="utf-8"))
            return Place(int(content["client"]), int(content["first_position"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def prepared(self, first_position: int) -> Path:
        """Return the folder of the pairs as a client that begins there trains on them."""
        return self.folder / f"prepared-{first_position}"

    def method(self, name: str) -> Path:
        """Return what the client keeps of one method; apart from the run's own files, whatever a method is called."""
        return self.folder / "methods" / name

    def keep_reply(self, method: str, job: str, reply: Reply) -> None:
        """Keep a reply until the next one takes its place."""
        header, tensors = reply.to_tensors()
        self.method(method).mkdir(parents=True, exist_ok=True)
        write_message(self._reply_file(method), {"job": job, "reply": header}, tensors)

    def kept_reply(self, method: str, job: str) -> Reply | None:
        """Return the reply to that job if it is here, whole."""
        try:
            header, tensors = read_message(self._reply_file(method))
            return Reply.from_tensors(header["reply"], tensors) if header.get("job") == job else None
        except (ValueError, KeyError, MessageError):
            return None

    def _read_recipe(self) -> str | None:
        """The recipe's text; None: it is not there, or torn, and the server sends it again."""
        try:
            content = self._recipe_file.read_bytes()
            text = content[:-_SEAL].decode()
        except (OSError, UnicodeDecodeError):
            return None
        return text if content[-_SEAL:] == _seal(text) else None

    def _reply_file(self, method: str) -> Path:
        return self.method(method) / "reply.safetensors"

    def _keep_ticket(self) -> None:
        write_whole(self.folder / "ticket.json", json.dumps(self._ticket).encode(), durable=False)

    def _read_ticket(self) -> tuple[int, int]:
        try:
            attempt, number = json.loads((self.folder / "ticket.json").read_text(encoding="utf-8"))
            return int(attempt), int(number)
        except (OSError, ValueError, TypeError):
            return 0, 0


def _seal(text: str) -> bytes:
    """What stands behind a recipe's text in its file: a comment with its checksum, as accept.recipes names it."""
    return f"\n# {hashlib.sha256(text.encode()).hexdigest()}\n".encode()
