"""A server that asks one site's trainer, request by request."""

from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.deployment.server_run import invitation_recipe
from fedcmp.deployment.trainer import Trainer
from fedcmp.federation.server import ServerSide
from fedcmp.preparation.loading import initial_trainable
from fedcmp.version import __version__
from fedcmp.wire.messages import Assignment
from fedcmp.wire.site_messages import (
    Admission,
    Answer,
    Collecting,
    Frame,
    Invitation,
    Judging,
    Placement,
    Request,
    Training,
    read_answer,
)

RUN = "ab" * 16


class Server:
    """Asks one trainer as a server does.

    Args:
        trainer: a site's.
        recipe: of the run.
        folder: for the server's own files.
        attempt: of its start.
    """

    def __init__(self, trainer: Trainer, recipe: Recipe, folder: Path, *, attempt: int = 1) -> None:
        self.trainer, self.recipe, self.folder = trainer, recipe, folder
        self.attempt, self.number, self.patience, self.run = attempt, 0, 120.0, RUN
        self.text = invitation_recipe(recipe)
        self.admission: Admission | None = None

    def head(self, **changes: object) -> dict[str, object]:
        self.number += 1
        own = {"run": self.run, "attempt": self.attempt, "number": self.number, "patience": self.patience}
        return own | changes

    def frame(self, request: Request) -> Frame:
        return self.trainer.answer(*request.to_tensors())

    def ask(self, request: Request) -> Answer:
        return read_answer(*self.frame(request))

    def invite(self, release: str = __version__) -> Answer:
        answer = self.ask(Invitation(**self.head(), release=release, recipe=self.text))
        if isinstance(answer, Admission):
            self.admission = answer
        return answer

    def place(self, client: int = 0, first_position: int = 0) -> Answer:
        return self.ask(Placement(**self.head(), client=client, clients=3, first_position=first_position))

    def begin(self, client: int = 0, first_position: int = 0) -> "Server":
        """Invite and place the site."""
        assert self.invite().message == "admission"
        assert self.place(client, first_position).message == "holding"
        return self

    def again(self, trainer: Trainer) -> "Server":
        """The same server, whose site's trainer was started again."""
        other = Server(trainer, self.recipe, self.folder, attempt=self.attempt)
        other.number, other.admission, other.run = self.number, self.admission, self.run
        return other

    def assignment(self, method: str = "fedavg", *, client: int = 0, measure_only: bool = False) -> Assignment:
        """Round 1, as the server half of a round makes it."""
        assert self.admission is not None
        initial = initial_trainable(self.recipe, self.admission.vision_width, self.admission.text_width).tensors()
        side = ServerSide(
            method, self.recipe.chosen(method), self.recipe, ["a", "b", "c"], initial, self.folder / "waiting", 0.001
        )
        return side.open(1, range(3), measure_only=measure_only)[client]

    def training(self, assignment: Assignment | None = None, method: str = "fedavg", **head: object) -> Training:
        return Training(**self.head(**head), method=method, assignment=assignment or self.assignment(method))

    def train(self, assignment: Assignment | None = None, method: str = "fedavg", **head: object) -> Answer:
        return self.ask(self.training(assignment, method, **head))

    def collect(self, job: str, **head: object) -> Answer:
        return self.ask(Collecting(**self.head(**head), job=job))

    def judge(self, method: str = "fedavg", *, blind: bool = False, state: object = None, **head: object) -> Answer:
        tensors = {} if blind else state or self.assignment(method).state
        return self.ask(Judging(**self.head(**head), method=method, round=0, blind=blind, state=tensors))
