import pytest

from fedcmp.errors import UserError, WorkerDied, WorkerFailed
from fedcmp.study.workers import Workers, checked

RECORDS = "tests.workers.handlers:study"  # a record of each task's number, slowly or by dying where it says so


def tasks(count, **first):
    return [{"op": "run", "number": number} | (first if number == 0 else {}) for number in range(count)]


def test_every_task_is_done_once_and_a_slow_one_holds_nobody_up():
    with Workers(2, RECORDS) as workers:
        ended = [done.record["number"] for done in workers.run(tasks(9, seconds=0.6))]
    assert sorted(ended) == list(range(9))
    assert ended[-1] == 0


def test_after_a_no_those_under_way_are_waited_for():
    with Workers(2, RECORDS) as workers:
        assert len(list(workers.run(tasks(9), may_start=lambda: False))) == 2


def test_fewer_tasks_than_workers():
    with Workers(3, RECORDS) as workers:
        assert [done.record["number"] for done in workers.run(tasks(1))] == [0]


def test_a_worker_that_dies_is_told():
    with (
        Workers(1, RECORDS) as workers,
        pytest.raises(WorkerDied, match=r"of the study .*exit code 3.*: give the same command again$"),
    ):
        list(workers.run([{"die": 3}]))


def test_a_mistake_ends_one_task_and_anything_else_all_of_them():
    """By the study's own handler, which reads a task's recipe first."""
    with Workers(1) as workers:
        (done,) = workers.run([{"op": "run", "recipe": "unknown = 1"}])
        assert done.record is None
        assert "unknown" in done.error
        with pytest.raises(UserError, match=r"^the task: .*unknown"):
            checked(done, "the task")
        with pytest.raises(WorkerFailed, match="KeyError: 'recipe'"):
            list(workers.run([{"op": "run"}]))
