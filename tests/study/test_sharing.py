"""Tasks that several processes share out: stand-ins do them, and two `Claims` stand for two processes."""

import threading

import pytest

from fedcmp.locks import Claims
from fedcmp.study.sharing import OutOfTime, Shared, Wanted
from fedcmp.study.workers import Done


class Worker:
    """Does tasks one by one, in this thread."""

    def __init__(self, during=lambda _number: None):
        self.during, self.did = during, []

    def run(self, tasks, *, may_start):
        for place, task in enumerate(tasks):
            self.during(task["number"])
            self.did.append(task["number"])
            yield Done(place, {"number": task["number"]})
            if not may_start():
                return


class Folder:
    """Results on a disk."""

    def __init__(self, count=6):
        self.there = []
        self.wanted = [
            Wanted(f"task/{n}", f"task {n}", {"number": n}, lambda n=n: n in self.there) for n in range(count)
        ]

    def share(self, claims, worker, said=None, has_time=lambda: True):
        shared = Shared(claims, worker, (said if said is not None else []).append, has_time)
        for place, done in shared.ended(self.wanted):
            assert done.record == {"number": place}
            self.there.append(place)


@pytest.fixture
def two(tmp_path):
    with Claims(tmp_path / "claims") as mine, Claims(tmp_path / "claims") as theirs:
        yield mine, theirs


def test_alone_all_is_done_in_order_and_nothing_stays_claimed(two):
    (mine, theirs), folder, worker, said = two, Folder(), Worker(), []
    folder.share(mine, worker, said)
    assert worker.did == folder.there == list(range(6))
    assert said[0].startswith("[1/6, 0 min left] task 0: done")
    assert said[-1].startswith("[6/6, 0 min left] task 5: done")
    assert all(theirs.take(each.claim) for each in folder.wanted)


def test_what_another_does_is_waited_for_and_not_done_again(two):
    (mine, theirs), folder, worker, said = two, Folder(), Worker(), []
    assert theirs.take("task/1")
    assert theirs.take("task/4")

    def let_go():
        folder.there.append(1)
        theirs.release("task/1")  # done
        theirs.release("task/4")  # killed in the middle of it

    later = threading.Timer(0.3, let_go)
    later.start()
    folder.share(mine, worker, said)
    later.join()
    assert worker.did == [0, 2, 3, 5, 4]
    assert sorted(folder.there) == list(range(6))
    assert any("waiting for 2 tasks of other processes, the first: task 1 (" in line for line in said)


def test_what_another_has_done_since_the_folder_was_read_is_left_out(two):
    (mine, theirs), folder = two, Folder()
    worker = Worker(during=lambda number: folder.there.append(3) if number == 0 else None)
    folder.share(mine, worker)
    assert worker.did == [0, 1, 2, 4, 5]
    assert theirs.take("task/3")


def test_two_at_a_time_do_each_task_once(two):
    folder = Folder(40)
    workers = [Worker(), Worker()]
    threads = [
        threading.Thread(target=folder.share, args=(claims, worker))
        for claims, worker in zip(two, workers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(workers[0].did + workers[1].did) == list(range(40))


def test_a_failure_gives_the_claims_back(two):
    (mine, theirs), folder = two, Folder()
    worker = Worker(during=lambda number: {}[number] if number == 2 else None)
    with pytest.raises(KeyError):
        folder.share(mine, worker)
    assert all(theirs.take(each.claim) for each in folder.wanted)


def test_when_time_is_over_no_more_are_begun_or_waited_for(two):
    (mine, theirs), folder, worker = two, Folder(), Worker()
    with pytest.raises(OutOfTime):
        folder.share(mine, worker, has_time=lambda: len(worker.did) < 2)
    assert worker.did == [0, 1]
    assert theirs.take("task/2")
    late = [True] * 2
    folder.there += range(3, 6)
    with pytest.raises(OutOfTime):  # while it waits for task 2, all others done
        folder.share(mine, Worker(), has_time=lambda: bool(late and late.pop()))
