"""Many talks over one link: what is asked again, and when."""

import pytest

from fedcmp.deployment.exchange import Exchange, Head
from fedcmp.wire.site_messages import Collecting, Refusal

HASH = "0f" * 32


class RefusingLink:
    """Every message is refused at once."""

    def __init__(self, clock):
        self.clock, self.pushed = clock, []

    def online(self):
        return frozenset({"north"})

    def push(self, site, frame, *, seconds):
        self.pushed.append(self.clock())
        return str(len(self.pushed))

    def pull(self, sent):
        for number in sent:
            yield number, Refusal(reason="the disk is full", accepted=True).to_tensors()


def asking(answers):
    while True:
        answers.append((yield lambda head: Collecting(**vars(head), job=HASH)))


def test_a_site_that_refuses_is_asked_again_later_and_later():
    now = [0.0]
    link, answers = RefusingLink(lambda: now[0]), []
    exchange = Exchange(
        link,
        ["north"],
        lambda patience: Head(HASH, 1, 1, patience),
        patience=60.0,
        note=lambda *_: None,
        clock=lambda: now[0],
    )
    exchange.start(0, asking(answers))
    while now[0] < 60:
        assert list(exchange.step(None)) == []
        now[0] += 0.5
    assert link.pushed == [0.0, pytest.approx(2.0, abs=0.6), pytest.approx(7.0, abs=1.1), pytest.approx(22.0, abs=1.6)]
    assert all(isinstance(answer, Refusal) for answer in answers)
