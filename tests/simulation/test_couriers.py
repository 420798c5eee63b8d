"""Couriers of asynchronous clients: the order of a virtual clock, that of the wall's, and nothing that was given up."""

import threading
import time

import pytest
import torch

from fedcmp.errors import WorkerFailed
from fedcmp.simulation.couriers import PoolCourier, VirtualCourier
from fedcmp.simulation.transport import PoolTransport
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import joined
from fedcmp.wire.payload import forms
from fedcmp.workers.jobs import JobQueue
from fedcmp.workers.pool import Here, Submissions

SECONDS = [4.0, 1.0, 2.0]


class Pool:
    """Does jobs in a thread, each after `delays[client]` real seconds."""

    def __init__(self, delays=None, fails=()):
        self.delays, self.fails, self.done = delays or {}, fails, []
        self.queue = JobQueue()
        threading.Thread(target=Here(self.work).serve, args=(self.queue,), daemon=True).start()

    def one_by_one(self):
        return Submissions(self.queue, lambda: None)

    def work(self, frames):
        ((job, _),) = frames
        (entry,) = job["clients"]
        client, part = entry["client"], entry["assignment"]["round"]
        if client in self.fails:
            raise WorkerFailed("no")
        time.sleep(self.delays.get(client, 0))
        self.done.append((client, part))
        reply = Reply(part, client, 8, 0.5, state={"w": torch.tensor([float(client)])})
        header, tensors = reply.to_tensors()
        return [({"replies": [header], "seconds": 0.0}, joined(**{str(client): tensors}))]


def assignment(part=1):
    return Assignment(part, learning_rate=0.1, forms=forms("float32"), state={"w": torch.ones(1)})


def virtual(tmp_path, **options):
    pool = Pool(**options)
    courier = VirtualCourier(pool, PoolTransport(pool, tmp_path, ["a", "b", "c"], cohort=1), SECONDS)
    courier.start(0.0)
    return courier


def arrivals(courier, count, until=None):
    found = []
    for _ in range(count):
        reply = courier.next_reply(until=until)
        found.append((courier.now(), None if reply is None else (reply.client, reply.round)))
    return found


def test_replies_come_in_the_order_of_the_virtual_clock_whoever_trains_faster(tmp_path):
    courier = virtual(tmp_path, delays={1: 0.2})
    for client in (0, 1, 2):
        courier.send(client, assignment(), at=0.0)
    assert arrivals(courier, 3) == [(1.0, (1, 1)), (2.0, (2, 1)), (4.0, (0, 1))]


def test_equal_arrivals_come_by_the_clients_numbers(tmp_path):
    courier = virtual(tmp_path)
    courier.send(2, assignment(), at=2.0)
    courier.send(1, assignment(), at=3.0)
    courier.send(0, assignment(), at=0.0)
    assert arrivals(courier, 3) == [(4.0, (0, 1)), (4.0, (1, 1)), (4.0, (2, 1))]


def test_waiting_ends_in_time_and_what_is_there_by_then_is_returned(tmp_path):
    courier = virtual(tmp_path)
    courier.send(1, assignment(), at=0.0)
    assert arrivals(courier, 1, until=0.0) == [(0.0, None)]
    assert arrivals(courier, 1, until=0.5) == [(0.5, None)]
    assert arrivals(courier, 1, until=1.0) == [(1.0, (1, 1))]
    assert arrivals(courier, 1, until=7.0) == [(7.0, None)]
    courier.send(2, assignment(), at=1.0)  # work that began earlier, sent again: its reply is there at once
    assert arrivals(courier, 1, until=7.0) == [(7.0, (2, 1))]
    with pytest.raises(RuntimeError, match="nobody was sent"):
        courier.next_reply(until=None)


def test_the_reply_to_work_that_was_given_up_never_comes(tmp_path):
    courier = virtual(tmp_path)
    courier.send(0, assignment(1), at=0.0)
    courier.send(0, assignment(2), at=3.0)
    assert arrivals(courier, 1) == [(7.0, (0, 2))]
    assert arrivals(courier, 1, until=99.0) == [(99.0, None)]


def test_a_resumed_clock_goes_on(tmp_path):
    courier = virtual(tmp_path)
    courier.start(10.0)
    courier.send(1, assignment(), at=10.0)
    assert arrivals(courier, 1) == [(11.0, (1, 1))]


def test_on_the_walls_clock_who_is_done_first_comes_first(tmp_path):
    pool = Pool(delays={0: 0.3})
    courier = PoolCourier(pool, PoolTransport(pool, tmp_path, ["a", "b"], cohort=1))
    courier.start(100.0)
    courier.send(1, assignment(), at=100.0)
    courier.send(0, assignment(), at=100.0)
    assert courier.next_reply(until=None).client == 1
    assert courier.next_reply(until=courier.now()) is None
    assert courier.next_reply(until=courier.now() + 0.01) is None
    assert courier.next_reply(until=None).client == 0
    assert 100.3 <= courier.now() < 105
    courier.send(1, assignment(2), at=100.0)
    time.sleep(0.1)
    assert courier.next_reply(until=courier.now()).round == 2  # one that is there already


@pytest.mark.parametrize("kind", [VirtualCourier, PoolCourier])
def test_what_fails_at_a_client_is_raised(tmp_path, kind):
    pool = Pool(fails={0})
    transport = PoolTransport(pool, tmp_path, ["a", "b"], cohort=1)
    courier = kind(pool, transport, SECONDS) if kind is VirtualCourier else kind(pool, transport)
    courier.start(0.0)
    courier.send(0, assignment(), at=0.0)
    with pytest.raises(WorkerFailed):
        courier.next_reply(until=None)
