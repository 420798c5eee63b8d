"""A job runs once, in a thread of its own; another one stops it at its next step."""

import threading

import pytest

from fedcmp.deployment.jobs import Job, Superseded
from fedcmp.deployment.refusals import Declined
from fedcmp.errors import UserError
from fedcmp.wire.site_messages import NotKnown

ANSWER = NotKnown(what="run").to_tensors()


def begun(work, **options):
    job = Job("0f" * 32, work, **options)
    job.start()
    return job


def test_a_job_ends_with_its_answer_and_counts_its_steps():
    def work(job):
        for _ in range(3):
            job.step()
        return ANSWER

    job = begun(work, of=3)
    assert job.wait(10)
    assert job.answer is ANSWER
    assert (job.steps, job.of, job.failed) == (3, 3, False)


def test_who_waits_hears_when_time_is_up():
    go_on = threading.Event()

    def work(job):
        job.step()
        go_on.wait(10)
        return ANSWER

    job = begun(work)
    assert not job.wait(0.01)
    assert (job.answer, job.failed) == (None, False)
    go_on.set()
    assert job.wait(10)


def test_a_job_that_another_takes_the_place_of_stops_at_its_next_step():
    stepping, steps = threading.Event(), []

    def work(job):
        while True:
            job.step()
            steps.append(1)
            stepping.set()

    job = begun(work)
    assert stepping.wait(10)
    job.supersede()  # returns when it has stopped
    count = len(steps)
    assert job.wait(0)
    assert job.answer is None
    assert job.failed
    assert len(steps) == count
    with pytest.raises(Superseded):
        job.step()


def test_superseding_a_job_that_is_over_changes_nothing():
    job = begun(lambda _job: ANSWER)
    assert job.wait(10)
    job.supersede()
    assert job.answer is ANSWER
    assert not job.failed


@pytest.mark.parametrize(
    ("error", "accepted"), [(Declined("not in send.allow"), False), (UserError("a.png"), True), (KeyError("x"), True)]
)
def test_a_job_that_fails_is_answered_by_a_refusal_and_counts_as_failed(error, accepted, capsys):
    said = []

    def work(_job):
        raise error

    job = begun(work, say=said.append)
    assert job.wait(10)
    assert (job.answer[0]["message"], job.answer[0]["accepted"]) == ("refusal", accepted)
    assert job.failed
    assert len(said) == 1
    capsys.readouterr()
