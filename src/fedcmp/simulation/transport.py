"""How a simulation's rounds reach its clients: cohorts become jobs of the pool, replies come back as they are done."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from fedcmp.config.sections import FOLDER_NAME
from fedcmp.simulation.engine import read_replies, training_job
from fedcmp.simulation.pool import Pool
from fedcmp.wire.frames import Frame
from fedcmp.wire.messages import Assignment, Reply

POOLED_FOLDER = "pooled"


class PoolTransport:
    """Assignments to the pool's workers (federation.rounds.Transport).

    Args:
        pool: the workers.
        folders: the method's `clients/` folder; each client's own is in there.
        names: of the clients.
        cohort: clients that are trained together.
    """

    def __init__(self, pool: Pool, folders: Path, names: Sequence[str], *, cohort: int) -> None:
        self._pool, self._cohort = pool, cohort
        self._folders, self._names = folders, client_folder_names(names)

    def exchange(
        self, assignments: Mapping[int, Assignment], *, until: float | None, done: Collection[int] = ()
    ) -> Iterator[Reply]:
        """See Transport.exchange. A client that is late trains to its end; its reply is not waited for.

        A cohort trains as a whole, also where only some of its replies are missing: a cohort of others would compute
        other bits.
        """
        clients = list(assignments)
        cohorts = [clients[start : start + self._cohort] for start in range(0, len(clients), self._cohort)]
        cohorts = [cohort for cohort in cohorts if not set(cohort) <= set(done)]
        jobs = (self.job({client: assignments[client] for client in cohort}) for cohort in cohorts)
        for _, answer in self._pool.as_completed(jobs, until=until):
            yield from (reply for reply in read_replies(answer.result, answer.tensors) if reply.client not in done)

    def job(self, assignments: Mapping[int, Assignment]) -> Frame:
        """Return the job of clients that train together."""
        return training_job(assignments, {client: self._folder(client) for client in assignments})

    def _folder(self, client: int) -> Path:
        return self._folders / (POOLED_FOLDER if client < 0 else self._names[client])


def client_folder_names(names: Sequence[str]) -> list[str]:
    """The clients' own names where all of them can be folders, else numbers."""
    usable = all(re.fullmatch(FOLDER_NAME, name) for name in names) and len({n.lower() for n in names}) == len(names)
    return list(names) if usable else [f"client-{number}" for number in range(len(names))]
