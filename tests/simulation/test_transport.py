"""How assignments become jobs: cohorts, and what of them is done already."""

import torch

from fedcmp.simulation.transport import PoolTransport
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import joined
from fedcmp.wire.payload import forms
from fedcmp.workers.jobs import Answer


class Pool:
    """Answers every job at once, and notes whose they are."""

    def __init__(self):
        self.asked = []

    def as_completed(self, jobs, *, until):
        for number, (job, _) in enumerate(jobs):
            clients = [entry["client"] for entry in job["clients"]]
            self.asked.append(clients)
            replies = [Reply(2, client, 8, 0.5, state={"w": torch.tensor([float(client)])}) for client in clients]
            sent = {str(reply.client): reply.to_tensors() for reply in replies}
            tensors = joined(**{client: own for client, (_, own) in sent.items()})
            yield number, Answer({"replies": [header for header, _ in sent.values()]}, tensors)


def exchange(tmp_path, done, cohort=2):
    pool = Pool()
    assignment = Assignment(2, learning_rate=0.1, forms=forms("float32"), state={"w": torch.ones(1)})
    transport = PoolTransport(pool, tmp_path, [f"client-{k}" for k in range(5)], cohort=cohort)
    replies = transport.exchange(dict.fromkeys(range(5), assignment), until=None, done=done)
    return pool.asked, [reply.client for reply in replies]


def test_only_the_clients_that_are_missing_are_asked(tmp_path):
    assert exchange(tmp_path, frozenset(), cohort=1)[1] == [0, 1, 2, 3, 4]
    assert exchange(tmp_path, frozenset({0, 3}), cohort=1)[1] == [1, 2, 4]
    assert exchange(tmp_path, frozenset(range(5))) == ([], [])


def test_a_cohort_trains_as_a_whole_so_that_its_bits_are_the_same(tmp_path):
    """Only the replies that are missing are passed on."""
    assert exchange(tmp_path, frozenset({0, 1, 2})) == ([[2, 3], [4]], [3, 4])
