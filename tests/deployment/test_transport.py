"""A deployment's rounds meet their sites: whose replies count, and what is made of sums of losses."""

import math

import pytest
import torch

from fedcmp.aggregation import Public
from fedcmp.config.methods import choose
from fedcmp.deployment.site_evaluator import NoEvaluator, SitesEvaluator
from fedcmp.deployment.site_notes import SiteNotes
from fedcmp.deployment.transport import SitesTransport
from fedcmp.federation.flower.link import Lost
from fedcmp.wire.messages import Assignment
from fedcmp.wire.payload import forms
from fedcmp.wire.site_messages import Judged, Refusal
from tests.deployment.scripted import NAMES, After, Federation, working

STATE = {"w": torch.ones(2)}


def assignments(*clients, number=1, measure_only=False):
    one = Assignment(number, learning_rate=0.01, forms=forms("float32"), measure_only=measure_only, state=STATE)
    return {client: one.continuing(client) for client in clients}


@pytest.fixture
def federation(tmp_path):
    federation = Federation(tmp_path)
    federation.talks.admit(seconds=None)
    for site in federation.sites.values():
        site.requests.clear()
    federation.said = []
    federation.events_of_round = SiteNotes(NAMES, federation.said.append)
    federation.follow = federation.events_of_round.note
    return federation


def transport(federation, *, least=1):
    return SitesTransport(
        "fedavg",
        choose("fedavg"),
        federation.talks,
        federation.events_of_round,
        edges={},
        public=lambda: Public(STATE, 1, {}, {}),
        least=least,
        clock=federation.clock,
    )


def replies(federation, asked, *, until=None, done=(), least=1):
    return list(transport(federation, least=least).exchange(asked, until=until, done=done))


def test_every_site_gets_its_own_assignment_and_its_reply_comes_back(federation):
    found = replies(federation, assignments(0, 1, 2))
    assert sorted(reply.client for reply in found) == [0, 1, 2]
    for client, site in enumerate(federation.sites.values()):
        (request,) = site.requests
        assert (request.method, request.assignment.continues) == ("fedavg", client)


def test_who_has_replied_before_a_restart_is_not_asked(federation):
    assert [reply.client for reply in replies(federation, assignments(0, 1, 2), done={0, 2})] == [1]
    assert federation.sites["north"].requests == federation.sites["west"].requests == []


def test_a_sample_of_the_sites_is_asked(federation):
    assert [reply.client for reply in replies(federation, assignments(2))] == [2]
    assert federation.sites["north"].requests == []


WRONG = [
    {"client": 2},
    {"round": 2},
    {"measure_only": True},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_reply_that_is_not_the_one_asked_for_is_not_handed_on(federation, wrong):
    south = federation.sites["south"]
    south.next.extend([lambda request: south.reply(request, **wrong)] * 3)
    found = replies(federation, assignments(0, 1, 2), until=federation.clock() + 100)
    assert sorted(reply.client for reply in found) == [0, 2]
    south.next.append(lambda request: south.reply(request, **wrong))
    assert sorted(reply.client for reply in replies(federation, assignments(0, 1, 2))) == [0, 1, 2]


def test_losses_are_no_reply(federation):
    judged = Judged(losses={"all": 1.0}, tokens={"all": 1}, captions=1, seconds=1.0)
    federation.sites["south"].next.extend([judged] * 3)
    assert sorted(reply.client for reply in replies(federation, assignments(0, 1, 2))) == [0, 2]


def test_a_wrong_answer_does_not_count_towards_the_least(federation):
    """Else a round would close with fewer replies than the server merges, and the run would stop."""
    north, south = federation.sites["north"], federation.sites["south"]
    north.next.extend([lambda request: north.reply(request, client=1)] * 3)
    south.next.append(lambda request: After(200, south.reply(request)))
    found = replies(federation, assignments(0, 1), until=federation.clock() + 10, least=1)
    assert [reply.client for reply in found] == [1]


def test_a_round_waits_past_its_deadline_for_as_many_as_the_server_merges(federation):
    for seconds, name in ((5, "north"), (200, "south"), (30, "west")):
        site = federation.sites[name]
        site.next.append(lambda request, site=site, seconds=seconds: After(seconds, site.reply(request)))
    begun = federation.clock()
    found = replies(federation, assignments(0, 1, 2), until=begun + 60, least=3)
    assert [reply.client for reply in found] == [0, 2, 1]
    assert 200 <= federation.clock() - begun < 202


def test_those_that_are_later_than_that_are_missing(federation):
    federation.sites["south"].next.append(lambda request: After(100, federation.sites["south"].reply(request)))
    federation.sites["west"].next.extend([After(60, working())] * 10)
    begun = federation.clock()
    assert [reply.client for reply in replies(federation, assignments(0, 1, 2), until=begun + 60, least=2)] == [0, 1]
    assert 100 <= federation.clock() - begun < 102
    assert [event.event for event in federation.events_of_round.drain() if event.client == 2][-1] == "missing"


def test_those_that_had_replied_count_towards_them(federation):
    federation.sites["west"].next.append(After(900, working()))
    begun = federation.clock()
    assert replies(federation, assignments(0, 1, 2), until=begun + 60, done={0, 1}, least=2) == []
    assert 60 <= federation.clock() - begun < 62


def evaluator(federation, seconds=None):
    return SitesEvaluator("fedavg", federation.talks, seconds=seconds, clock=federation.clock)


def test_sums_of_losses_are_put_together(federation):
    (found,) = evaluator(federation).evaluations({"global": STATE}, 3, last=True)
    assert (found.round, found.model, found.captions) == (3, "global", 15)
    assert found.caption_loss == pytest.approx(2.0)
    assert found.group_losses == dict.fromkeys(NAMES, 2.0)
    assert all(request.round == 3 and not request.blind for s in federation.sites.values() for request in s.requests)


def test_the_blind_model_and_the_initial_tensors_come_first(federation):
    blind, initial = evaluator(federation).references(STATE)
    assert (blind.model, initial.model, blind.round) == ("blind", "initial", 0)
    first, second = federation.sites["north"].requests
    assert (first.blind, first.state, second.blind) == (True, {}, False)


def test_references_are_judged_once_for_all_methods(federation):
    shared = []
    options = {"seconds": None, "clock": federation.clock, "shared": shared}
    found = [SitesEvaluator(m, federation.talks, **options).references(STATE) for m in ("fedavg", "moon")]
    assert found[0] == found[1] == shared
    assert len(federation.sites["north"].requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Refusal(reason="the losses on held-out pairs are asked for, but losses are not in send.allow", accepted=False),
        Lost("gone"),
        After(500, working()),
        ({"message": "judged", "version": 2, "losses": {}, "tokens": {}, "captions": 0, "seconds": 0.0}, {}),
        (
            {
                "message": "judged",
                "version": 2,
                "losses": {"a": 1.0},
                "tokens": {"a": 0},
                "captions": 1,
                "seconds": 0.0,
            },
            {},
        ),
    ],
)
def test_a_site_that_does_not_judge_is_left_out_of_the_mean(federation, answer):
    federation.sites["north"].next.extend([answer] * 40)
    (found,) = evaluator(federation, seconds=100).evaluations({"global": STATE}, 1, last=False)
    assert found.captions == 10
    assert found.group_losses.keys() == {"south", "west"}


def test_where_nobody_judges_nothing_is_measured(federation):
    for site in federation.sites.values():
        site.next.append(Refusal(reason="not in send.allow", accepted=False))
    assert evaluator(federation).evaluations({"global": STATE}, 1, last=False) == []


def test_a_reply_is_no_judgement(federation):
    north = federation.sites["north"]
    replies(federation, assignments(0))
    (training,) = north.requests
    north.next.extend([north.reply(training)] * 3)
    (found,) = evaluator(federation, seconds=10).evaluations({"global": STATE}, 1, last=False)
    assert found.group_losses.keys() == {"south", "west"}


def test_huge_losses_stay_numbers(federation):
    huge = Judged(losses={"all": 1e30}, tokens={"all": 1}, captions=1, seconds=1.0)
    for site in federation.sites.values():
        site.next.append(huge)
    (found,) = evaluator(federation).evaluations({"global": STATE}, 1, last=False)
    assert math.isfinite(found.caption_loss)


def test_no_evaluator_measures_nothing():
    nobody = NoEvaluator()
    assert nobody.references(STATE) == nobody.evaluations({"global": STATE}, 1, last=True) == []
    nobody.samples({"global": STATE})


def test_what_sites_say_is_shown_as_it_is_and_shortened(federation):
    federation.sites["north"].next.append(Refusal(reason="\x1b[2Jforged\nline " + "x" * 3000, accepted=False))
    replies(federation, assignments(0, 1))
    (line,) = [line for line in federation.said if "refused" in line]
    assert line.isprintable()
    assert line.startswith("fedavg, round 1: north refused: \\x1b[2Jforged\\nline xxx")
    assert len(line) < 600
    (event,) = [event for event in federation.events_of_round.drain() if event.event == "refused"]
    assert event.detail.isprintable()
