"""The pool: orders, back-pressure, failures, closing, several callers."""

import gc
import itertools
import threading
import time
import weakref
from functools import partial

import pytest
import torch

from fedcmp.errors import UserError, WorkerDied, WorkerFailed
from fedcmp.workers.jobs import Stopped
from fedcmp.workers.pool import Here, Pool
from fedcmp.workers.processes import WorkerProcesses

ECHO = "tests.workers.handlers:echo"
DIED = "a worker ended (exit code {code}); try again"


def of_processes(count, **options):
    return Pool(WorkerProcesses(count, ECHO), died=DIED, **options)


@pytest.fixture(scope="module")
def pool():
    with of_processes(2) as pool:
        yield pool


@pytest.fixture
def here():
    """One worker in this process."""
    with Pool(WorkerProcesses(0, ECHO), died=DIED, here=Here(lambda frames: list(frames))) as pool:
        yield pool


def numbered(count, **first):
    return [({"number": number} | (first if number == 0 else {}), {}) for number in range(count)]


def test_map_answers_in_the_jobs_order(pool):
    answers = list(pool.map(numbered(9, seconds=0.5)))
    assert [answer.result["number"] for answer in answers] == list(range(9))
    assert len({answer.result["process"] for answer in answers}) == 2


def test_as_completed_answers_in_the_order_of_completion(pool):
    """Each with its job's place; a slow one holds nobody up."""
    list(pool.map(numbered(2)))  # both are there
    answers = list(pool.as_completed(numbered(9, seconds=1.0)))
    assert all(index == answer.result["number"] for index, answer in answers)
    indices = [index for index, _ in answers]
    assert sorted(indices) == list(range(9))
    assert indices.index(0) >= 3


def test_the_others_go_on_while_one_job_takes_long(pool):
    """Answers that are taken leave room for jobs: all of them but the slow one are done before it."""
    list(pool.map(numbered(2)))
    assert [index for index, _ in pool.as_completed(numbered(40, seconds=2.0))][-1] == 0


def test_answers_are_waited_for_until_a_moment_only(pool):
    """Whoever is late trains on; the next jobs are done as if nothing had been."""
    list(pool.map(numbered(2)))
    jobs = [({"seconds": seconds}, {}) for seconds in (0.0, 2.0)]
    begun = time.monotonic()
    assert [index for index, _ in pool.as_completed(iter(jobs), until=begun + 0.8)] == [0]
    assert 0.7 < time.monotonic() - begun < 1.8
    assert [index for index, _ in pool.as_completed(numbered(3), until=time.monotonic())] == []
    assert sorted(index for index, _ in pool.as_completed(numbered(3))) == [0, 1, 2]


def test_tensors_come_back(pool):
    jobs = [({}, {"a": torch.full((3,), number)}) for number in range(4)]
    assert [answer.tensors["a"].tolist() for answer in pool.map(jobs)] == [[number] * 3 for number in range(4)]


@pytest.mark.parametrize("workers", [2, 0])
def test_jobs_are_taken_as_answers_are(workers, tmp_path, here):
    """However many jobs there are and however slow who takes the answers: never more than 2 per worker are out."""
    taken = itertools.count()
    jobs = (({"number": next(taken)}, {}) for _ in itertools.repeat(None))
    chosen = of_processes(2) if workers else here
    with chosen as pool:
        answers = pool.as_completed(jobs)
        for got in range(12):
            next(answers)
            time.sleep(0.05)
            assert next(taken) <= got + 1 + 2 * max(workers, 1) + got + 1  # this test takes a number itself each time
        answers.close()


def test_no_more_answers_wait_than_two_per_worker(tmp_path):
    """Counted by the workers themselves, while nobody takes an answer."""
    log = tmp_path / "log"
    with of_processes(2) as pool:
        answers = pool.as_completed(({"file": str(log)}, {}) for _ in itertools.repeat(None))
        next(answers)
        time.sleep(1.0)
        assert len(log.read_text().splitlines()) == 1 + 4
        answers.close()


def test_an_answer_is_freed_as_soon_as_its_caller_lets_it_go(pool, here):
    """Neither the pool nor its threads hold one that was taken, with the next ones still to come."""
    for chosen, call in itertools.product((pool, here), ("map", "as_completed")):
        answers = getattr(chosen, call)(({"seconds": seconds}, {"a": torch.zeros(8)}) for seconds in (0, 0.3, 0))
        answer = next(answers)
        answer = answer[1] if call == "as_completed" else answer
        freed = weakref.ref(answer.tensors["a"])
        del answer
        time.sleep(0.05)
        gc.collect()
        assert freed() is None, (chosen, call)
        assert len(list(answers)) == 2


def test_lazy_jobs_are_made_beside_each_other_and_not_by_the_caller(pool):
    made = []
    both = threading.Barrier(2, timeout=30)

    def make(number):
        both.wait()
        made.append(threading.current_thread())
        return {"number": number}, {}

    assert len(list(pool.as_completed(partial(make, number) for number in range(6)))) == 6
    assert threading.current_thread() not in made
    assert len(set(made)) == 2


def test_what_goes_wrong_in_a_job_goes_to_who_asked(pool, here):
    def unreadable():
        raise OSError("in a lazy job")

    cases = [
        (({"mistake": "fix this"}, {}), UserError, "^fix this$"),
        (({"bug": "here"}, {}), WorkerFailed, "KeyError: 'here'"),
        (unreadable, OSError, "in a lazy job"),
        (({"number": object()}, {}), TypeError, "not JSON serializable"),
    ]
    for job, kind, match in cases:
        for call in (pool.map, pool.as_completed):
            with pytest.raises(kind, match=match):
                list(call([job, *numbered(3)]))
    assert len(list(pool.map(numbered(4)))) == 4  # nothing of the failed calls is left in the way
    with pytest.raises(OSError, match="in a lazy job"):
        list(here.map([unreadable]))
    assert len(list(here.map(numbered(4)))) == 4


def test_of_several_failures_map_raises_the_first_job_s(pool):
    jobs = [({"seconds": 0.5, "number": 0}, {}), ({"mistake": "second"}, {}), ({"mistake": "third"}, {})]
    answers = pool.map(jobs)
    assert next(answers).result["number"] == 0
    with pytest.raises(UserError, match="second"):
        next(answers)


def test_jobs_of_a_caller_that_has_gone_are_not_done(tmp_path):
    log = tmp_path / "log"
    with of_processes(1) as pool:
        answers = pool.map([({"file": str(log), "seconds": 0.2}, {})] * 20)
        next(answers)
        answers.close()
        list(pool.map(numbered(1)))
        assert len(log.read_text().splitlines()) <= 2


def test_a_source_that_fails_stops_its_caller(pool):
    def broken():
        yield from numbered(1)
        raise KeyError("in the source")

    for call in (pool.map, pool.as_completed):
        with pytest.raises(KeyError, match="in the source"):
            list(call(broken()))


def test_a_worker_that_dies_says_how():
    for workers in (1, 2):
        with (
            of_processes(workers) as pool,
            pytest.raises(WorkerDied, match=r"^a worker ended \(exit code 3\); try again$"),
        ):
            list(pool.as_completed([({"die": 3}, {})]))


def test_a_worker_that_dies_while_it_is_sent_a_job_says_how():
    large = {"a": torch.zeros(2**22)}
    with of_processes(1, in_flight=3) as pool, pytest.raises(WorkerDied, match="exit code 3"):
        list(pool.as_completed([({"die": 3}, {}), ({}, large), ({}, large)]))


@pytest.mark.parametrize("call", ["map", "as_completed"])
def test_who_waits_is_stopped_when_the_pool_is_closed(call):
    raised = []

    def wait(pool):
        try:
            list(getattr(pool, call)(numbered(4, seconds=1000)))
        except BaseException as error:
            raised.append(error)

    with of_processes(2) as pool:
        list(pool.map(numbered(2)))
        callers = [threading.Thread(target=wait, args=(pool,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        time.sleep(0.3)
        begun = time.monotonic()
        pool.close()
        for caller in callers:
            caller.join(10)
        assert time.monotonic() - begun < 5
    assert [type(error) for error in raised] == [Stopped] * 3
    with pytest.raises(Stopped):
        list(pool.map(numbered(1)))


def test_many_threads_use_one_pool(pool):
    """Each gets the answers to its own jobs."""
    found = {}

    def work(who):
        call = pool.map if who % 2 else pool.as_completed
        answers = [a if who % 2 else a[1] for a in call(({"who": who, "number": n}, {}) for n in range(30))]
        found[who] = sorted((answer.result["who"], answer.result["number"]) for answer in answers)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {who: [(who, number) for number in range(30)] for who in range(8)}


def test_a_job_may_need_all_that_do_jobs_here_and_others_go_several_at_a_time():
    """As the ranks of a crew: in the jobs' order."""
    sets = []

    def do(frames):
        sets.append([header["number"] for header, _ in frames])
        time.sleep(0.2)
        return list(frames)

    options = {"died": DIED, "here": Here(do, most=2, alone=lambda job: job[0]["alone"])}
    with Pool(WorkerProcesses(0, ECHO), **options) as pool:
        jobs = [({"number": number, "alone": number in (2, 3)}, {}) for number in range(8)]
        assert [answer.result["number"] for answer in pool.map(jobs)] == list(range(8))
    assert list(itertools.chain(*sets)) == list(range(8))
    assert sets[-4:] == [[2], [3], [4, 5], [6, 7]]


def test_jobs_handed_in_one_by_one_are_answered_as_they_end(pool):
    one_by_one = pool.one_by_one()
    assert one_by_one.next(until=time.monotonic() - 1) is None
    one_by_one.submit(7, ({"number": 7, "seconds": 0.5}, {}))
    one_by_one.submit(8, ({"number": 8}, {}))
    number, answer = one_by_one.next()
    assert (number, answer.result["number"]) == (8, 8)
    one_by_one.submit(9, ({"number": 9}, {}))
    assert sorted([one_by_one.next()[0], one_by_one.next()[0]]) == [7, 9]
    assert one_by_one.next(until=time.monotonic() + 0.01) is None


def test_an_answer_that_is_there_is_returned_though_the_time_is_over(here):
    one_by_one = here.one_by_one()
    one_by_one.submit(1, ({"number": 1}, {}))
    time.sleep(0.3)
    assert one_by_one.next(until=time.monotonic() - 1)[0] == 1


def test_who_hands_in_one_by_one_hears_that_the_pool_is_closed():
    with Pool(WorkerProcesses(0, ECHO), died=DIED, here=Here(lambda frames: list(frames))) as closing:
        one_by_one = closing.one_by_one()
    with pytest.raises(Stopped):
        one_by_one.next()
    with pytest.raises(Stopped):
        one_by_one.submit(1, ({}, {}))
