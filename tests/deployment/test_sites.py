"""A server's talks with its sites: through lost messages, restarts, sites that come late and answers that are none."""

from itertools import pairwise

import pytest
import torch

from fedcmp.deployment.exchange import Head
from fedcmp.federation.flower.link import Lost
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.payload import forms
from fedcmp.wire.site_messages import Judged, NotKnown, Refusal, Training
from tests.deployment.scripted import NAMES, SILENCE, After, Federation, working

ASSIGNMENT = Assignment(1, learning_rate=0.01, forms=forms("float32"), state={"w": torch.ones(2)})


def training(head):
    return Training(**vars(head), method="fedavg", assignment=ASSIGNMENT)


def is_reply(client, answer):
    if not isinstance(answer, Reply):
        return "losses, where a reply was asked for"
    return "" if answer.client == client else f"its reply names another client, {answer.client}"


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path)


@pytest.fixture
def admitted(federation):
    federation.talks.admit(seconds=None)
    for site in federation.sites.values():
        site.requests.clear()
    federation.notes.clear()
    federation.link.pushed.clear()
    federation.link._answers.clear()
    federation.link._pulled.clear()
    return federation


def ask(federation, clients=(0, 1, 2), *, until=None, least=0, talks=None):
    talks = talks or federation.talks
    return dict(talks.ask(dict.fromkeys(clients, training), fits=is_reply, until=until, least=least))


def test_sites_are_admitted_and_placed_in_the_recipes_order(federation):
    federation.talks.admit(seconds=None)
    assert [site.placed for site in federation.sites.values()] == [(0, 0), (1, 60), (2, 110)]
    assert federation.register.pairs == [50, 40, 30]
    assert [detail for _, event, detail in federation.notes if event == "joined"][:3] == [
        "60 usable pairs",
        "50 usable pairs",
        "40 usable pairs",
    ]


def test_nobody_is_placed_while_too_few_are_there_to_begin(federation):
    federation.sites["north"].next.append(Refusal(reason="accept.methods has moon only", accepted=False))
    federation.talks.admit(seconds=None, least=3)
    assert sorted(federation.register.members) == [1, 2]
    assert [site.placed for site in federation.sites.values()] == [None, None, None]
    federation.talks.admit(seconds=None, least=3)
    assert [site.placed for site in federation.sites.values()] == [(0, 0), (1, 60), (2, 110)]


def test_a_site_that_could_not_do_it_is_invited_again(federation):
    federation.sites["north"].next.extend([Refusal(reason="its disk is full", accepted=True)] * 2)
    federation.talks.admit(seconds=None)
    assert [site.placed for site in federation.sites.values()] == [(0, 0), (1, 60), (2, 110)]
    assert federation.events("north", "refused") == ["its disk is full"] * 2


def test_a_site_that_cannot_be_reached_is_waited_for_until_time_is_up(federation):
    federation.link.down = {"south"}
    begun = federation.clock()
    federation.talks.admit(seconds=100)
    assert 100 <= federation.clock() - begun < 102
    assert sorted(federation.register.members) == [0, 2]
    assert federation.sites["west"].placed == (2, 60)
    assert federation.events("south", "lost") == ["cannot be reached"]
    assert federation.sites["south"].requests == []


def test_a_site_that_does_not_answer_its_placement_comes_later(federation):
    federation.sites["west"].next.extend([federation.sites["west"].answer, After(500, working())])
    begun = federation.clock()
    federation.talks.admit(seconds=100)
    assert federation.clock() - begun < 102
    assert federation.register.pairs == [50, 40]
    assert sorted(ask(federation)) == [0, 1, 2]
    assert federation.sites["west"].placed == (2, 110)
    assert federation.register.pairs == [50, 40, 30]


def test_without_a_limit_all_sites_are_waited_for(federation):
    federation.link.down = {"south"}
    federation.clock.at(5000, lambda: federation.link.down.clear())
    federation.talks.admit(seconds=None)
    assert federation.clock() >= 6000
    assert [site.placed for site in federation.sites.values()] == [(0, 0), (1, 60), (2, 110)]
    assert federation.events("south", "rejoined") == [""]


def test_a_site_that_refuses_is_left_out_and_may_come_later(federation):
    federation.sites["north"].next.append(Refusal(reason="accept.methods has moon only", accepted=False))
    federation.talks.admit(seconds=None)
    assert sorted(federation.register.members) == [1, 2]
    assert federation.events("north", "refused") == ["accept.methods has moon only"]
    answers = ask(federation)
    assert all(isinstance(answer, Reply) for answer in answers.values())
    assert federation.sites["north"].placed == (0, 90)  # behind those that were there


def test_every_request_has_a_later_ticket(admitted):
    ask(admitted)
    ask(admitted)
    tickets = [site.requests[number].ticket for number in (0, 1) for site in admitted.sites.values()]
    assert tickets == sorted(set(tickets))
    assert {attempt for attempt, _ in tickets} == {admitted.register.attempt}


def test_a_site_that_is_still_working_is_asked_by_messages_without_tensors(admitted):
    north = admitted.sites["north"]
    north.next.extend(
        [After(60, working(1)), After(60, working(3)), lambda _: After(30, north.reply(north.requests[0]))]
    )
    answers = ask(admitted)
    assert answers[0].client == 0
    assert north.kinds() == ["training", "collecting", "collecting"]
    assert admitted.steps == [("north", 1, 4), ("north", 3, 4)]
    assert admitted.notes == []


def test_answers_come_as_they_are_there(admitted):
    for name, seconds in (("north", 30), ("south", 10), ("west", 20)):
        site = admitted.sites[name]
        site.next.append(lambda request, site=site, seconds=seconds: After(seconds, site.reply(request)))
    assert list(ask(admitted)) == [1, 2, 0]


def test_a_lost_message_is_sent_again_later_and_later(admitted):
    admitted.sites["north"].next.extend([Lost("gone")] * 6)
    ask(admitted)
    times = [when for when, site, _ in admitted.link.pushed if site == "north"]
    assert [round(b - a) for a, b in pairwise(times)] == [2, 5, 15, 60, 60, 60]
    assert admitted.events("north", "asked again") == ["gone"] * 6


def test_a_message_that_flower_does_not_take_is_sent_again(admitted):
    admitted.link.refuses = {"north"}
    admitted.clock.at(30, lambda: admitted.link.refuses.clear())
    assert ask(admitted)[0].client == 0
    assert admitted.events("north", "asked again")[0] == "Flower did not take the message"


def test_a_message_of_which_nobody_hears_again_is_sent_again(admitted):
    admitted.sites["north"].next.append(SILENCE)
    assert ask(admitted)[0].client == 0
    (first, _, seconds), (second, _, _) = [push for push in admitted.link.pushed if push[1] == "north"]
    assert second - first > seconds
    assert admitted.events("north", "asked again") == ["no answer, and no word of what became of the message"]


def test_a_message_lives_as_long_as_its_tensors_and_the_answers_need_on_a_slow_link(admitted):
    """84 MB down and 218 MB up take minutes; with the site's patience alone no reply would ever arrive."""
    large = Assignment(1, learning_rate=0.01, forms=forms("float32"), state={"w": torch.ones(250_000)})

    def make(head):
        return Training(**vars(head), method="fedavg", assignment=large)

    admitted.sites["north"].next.append(After(60, working()))
    admitted.sites["north"].next.append(admitted.sites["north"].reply(make(Head("ab" * 16, 1, 1, 1.0))))
    dict(admitted.talks.ask({0: make}, fits=is_reply, until=None))
    assert admitted.sites["north"].kinds() == ["training", "collecting"]
    assert [round(seconds) for _, _, seconds in admitted.link.pushed] == [60 + 60 + 100] * 2  # 5 MB at 50 kB/s


def test_work_that_a_restarted_site_lost_is_sent_again(admitted):
    north = admitted.sites["north"]
    north.next.extend([After(60, working()), NotKnown(what="job")])
    assert ask(admitted)[0].client == 0
    assert north.kinds() == ["training", "collecting", "training"]
    assert admitted.events("north", "asked again") == ["the site lost the work under way"]


def test_a_site_that_lost_the_run_is_invited_and_placed_again_where_it_was(admitted):
    south = admitted.sites["south"]
    south.forget()
    assert ask(admitted)[1].client == 1
    assert south.kinds() == ["training", "invitation", "placement", "training"]
    assert south.placed == (1, 60)


def test_a_site_that_loses_the_run_between_invitation_and_placement_is_invited_again(federation):
    south = federation.sites["south"]
    south.next.extend([south.answer, NotKnown(what="run")])
    federation.talks.admit(seconds=None)
    assert south.kinds() == ["invitation", "placement", "invitation", "placement"]
    assert south.placed == (1, 60)


def test_a_site_that_never_knows_the_run_is_turned_away(federation):
    federation.sites["south"].next.extend([federation.sites["south"].answer, NotKnown(what="run")] * 3)
    federation.talks.admit(seconds=None)
    assert federation.register.pairs == [50, 30]
    assert federation.events("south", "refused") == ["an answer of another kind, NotKnown"]


def test_a_site_that_comes_back_with_other_pairs_is_turned_away(admitted):
    south = admitted.sites["south"]
    south.forget()
    south.usable = 49
    answers = ask(admitted)
    assert isinstance(answers[1], Refusal)
    assert "has 49 usable pairs, and had 50" in answers[1].reason
    assert isinstance(answers[0], Reply)


def test_a_server_that_was_restarted_asks_on_without_inviting_anybody(admitted):
    admitted.register.begin()
    assert len(ask(admitted, talks=admitted.started())) == 3
    assert {kind for site in admitted.sites.values() for kind in site.kinds()} == {"training"}


def test_a_round_ends_at_its_deadline_without_those_that_are_missing(admitted):
    admitted.sites["west"].next.append(After(1000, working()))
    begun = admitted.clock()
    assert sorted(ask(admitted, until=begun + 90)) == [0, 1]
    assert 90 <= admitted.clock() - begun < 92
    assert admitted.events("west", "missing") == ["no answer by the deadline"]


def test_a_sites_patience_ends_with_the_round(admitted):
    ask(admitted, until=admitted.clock() + 12)
    assert admitted.sites["north"].requests[0].patience == pytest.approx(12)
    ask(admitted, until=admitted.clock() + 1000)
    assert admitted.sites["north"].requests[1].patience == 60


def test_the_least_number_of_answers_is_waited_for_even_then(admitted):
    for name in ("south", "west"):
        site = admitted.sites[name]
        site.next.append(lambda request, site=site: After(300, site.reply(request)))
    begun = admitted.clock()
    assert sorted(ask(admitted, until=begun + 10, least=2)) == [0, 1, 2]
    assert admitted.clock() - begun < 310


def test_a_refusal_is_no_answer_that_was_waited_for(admitted):
    admitted.sites["north"].next.append(Refusal(reason="not in send.allow", accepted=False))
    south = admitted.sites["south"]
    south.next.append(lambda request: After(40, south.reply(request)))
    found = ask(admitted, (0, 1), until=admitted.clock() + 10, least=1)
    assert (found[0].reason, found[1].client) == ("not in send.allow", 1)


@pytest.mark.parametrize(("accepted", "asked"), [(False, 1), (True, 3)])
def test_what_a_site_does_not_do_it_is_asked_once_what_it_could_not_do_thrice(admitted, accepted, asked):
    north = admitted.sites["north"]
    north.next.extend([Refusal(reason="a reason", accepted=accepted)] * 5)
    assert ask(admitted)[0].reason == "a reason"
    assert len(north.requests) == asked
    assert admitted.events("north", "refused") == ["a reason"] * asked


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda site: lambda request: site.reply(request, client=2), "its reply names another client, 2"),
        (lambda _: Judged(losses={"a": 1.0}, tokens={"a": 1}, captions=1, seconds=1.0), "losses, where a reply"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_the_site_asked_again(admitted, wrong, reason):
    south = admitted.sites["south"]
    south.next.append(wrong(south))
    assert ask(admitted)[1].client == 1
    assert admitted.events("south", "refused")[0].startswith(reason)
    south.next.extend([wrong(south)] * 3)
    found = ask(admitted, until=admitted.clock() + 10, least=3)
    assert found[1].reason.startswith(reason)
    assert isinstance(found[0], Reply)


def test_a_reply_where_an_admission_was_asked_for_turns_the_site_away(federation):
    reply = Reply(1, client=0, num_examples=1, alignment_error=0.0)
    federation.sites["north"].next.append(reply)
    federation.talks.admit(seconds=None)
    assert sorted(federation.register.members) == [1, 2]
    assert federation.events("north", "refused") == ["an answer of another kind, Reply"]


MALFORMED = [({"message": "reply", "version": 2}, {}), Lost("malformed frame: its header is not JSON", malformed=True)]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_answer_is_asked_for_again_and_the_third_in_a_row_ends_the_talk(admitted, malformed):
    north = admitted.sites["north"]
    north.next.extend([malformed] * 2)
    assert ask(admitted)[0].client == 0
    north.next.extend([malformed] * 3)
    answers = ask(admitted)
    assert isinstance(answers[0], Refusal)
    assert answers[0].reason.startswith("malformed answers, the last: ")
    assert [answers[client].client for client in (1, 2)] == [1, 2]
    assert len(admitted.events("north", "refused")) == 1


def test_losses_of_messages_between_them_do_not_add_up_to_malformed_answers(admitted):
    admitted.sites["north"].next.extend([MALFORMED[1], Lost("gone"), Lost("gone"), MALFORMED[1], Lost("gone")])
    assert ask(admitted)[0].client == 0


def test_a_link_that_gives_an_answer_twice_is_heard_once(admitted, monkeypatch):
    pull = admitted.link.pull
    monkeypatch.setattr(admitted.link, "pull", lambda sent: [one for one in pull(sent) for _ in range(2)])
    assert [answer.client for answer in ask(admitted).values()] == [0, 1, 2]


def test_one_sites_failure_does_not_hold_up_the_others(admitted):
    admitted.sites["west"].next.extend([Lost("gone")] * 100)
    heard = {}
    for client, answer in admitted.talks.ask(
        dict.fromkeys(range(3), training), fits=is_reply, until=admitted.clock() + 50
    ):
        heard[NAMES[client]] = admitted.clock()
        assert answer.client == client
    assert set(heard) == {"north", "south"}
    assert max(heard.values()) < admitted.clock() - 45
