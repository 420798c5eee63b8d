"""What a site is willing to do and to send."""

import hashlib
from dataclasses import replace

import pytest
import torch

from fedcmp.config import dump_recipe, parse_recipe
from fedcmp.deployment.refusals import Declined
from fedcmp.deployment.site_file import SENDABLE, Site
from fedcmp.deployment.willing import (
    check_accepted,
    check_assignment,
    check_judging,
    needed_by,
    only_allowed,
    sent_names,
)
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.payload import forms
from fedcmp.wire.site_messages import Admission, Holding, Judged, NotKnown, Refusal, Working

HASH = "0f" * 32
MATRIX = {"linear_1.weight": torch.ones(2, 2)}


def recipe_of(*methods, **changes):
    content = {"run": {"methods": list(methods)}, "data": {"num_pairs": 10}, "federation": {"rounds": 4}}
    return parse_recipe(content | changes, "test")


def site_of(**sections):
    identity = {"name": "north", "server": "127.0.0.1:9000"}
    return Site.model_validate({"site": identity, "data": {"format": "llava", "pairs": "pairs.json"}} | sections)


def without(*kinds):
    return site_of(send={"allow": [kind for kind in SENDABLE if kind not in kinds]})


def accepted(recipe, site):
    check_accepted(recipe, dump_recipe(recipe), site)


def test_a_site_that_says_nothing_accepts_every_federated_method():
    accepted(recipe_of("fedavg", "fedcmp", "shared-basis", "moon", "scaffold", "fisher"), site_of())


def test_only_the_recipes_that_are_listed():
    recipe = recipe_of("fedavg")
    text = dump_recipe(recipe)
    digest = hashlib.sha256(text.encode()).hexdigest()
    check_accepted(recipe, text, site_of(accept={"recipes": [HASH, digest]}))
    with pytest.raises(Declined, match=f"accept.recipes does not list this run's recipe, whose sha256 is {digest}"):
        check_accepted(recipe, text, site_of(accept={"recipes": [HASH]}))
    with pytest.raises(Declined, match=r"accept\.recipes does not list"):
        check_accepted(recipe, text + " ", site_of(accept={"recipes": [digest]}))


def test_only_the_methods_that_are_listed():
    site = site_of(accept={"methods": ["fedavg", "moon"]})
    accepted(recipe_of("fedavg", "moon"), site)
    with pytest.raises(Declined, match=r"method fedcmp: accept\.methods has fedavg, moon only"):
        accepted(recipe_of("fedavg", "fedcmp"), site)


def test_only_so_many_rounds():
    accepted(recipe_of("fedavg"), site_of(accept={"max_rounds": 4}))
    with pytest.raises(Declined, match=r"federation\.rounds = 4: accept\.max_rounds is 3"):
        accepted(recipe_of("fedavg"), site_of(accept={"max_rounds": 3}))


@pytest.mark.parametrize("method", ["centralized", "local", "centralized-large-batch"])
def test_no_method_without_a_server(method):
    with pytest.raises(Declined, match=f"method {method}: has no server"):
        accepted(recipe_of("fedavg", method), site_of())


NEEDS = {
    "fedavg": {"projector", "counts"},
    "moon": {"projector", "counts"},
    "fisher": {"projector", "counts", "second moments"},
    "fedcmp": {"projector", "counts", "alignment error"},
    "shared-basis": {"projector", "counts", "second moments", "gram matrices"},
    "scaffold": {"projector", "counts", "control variates"},
}


@pytest.mark.parametrize("method", NEEDS)
def test_a_method_needs_what_it_cannot_do_without(method):
    recipe = recipe_of(method)
    assert set(needed_by(recipe, method)) == NEEDS[method]
    for kind in SENDABLE:
        if kind in needed_by(recipe, method):
            with pytest.raises(Declined, match=f"method {method} needs {kind} from a site: not in send.allow"):
                accepted(recipe, without(kind))
        else:
            accepted(recipe, without(kind))


REPLY = Reply(
    2,
    client=1,
    num_examples=16,
    alignment_error=0.25,
    figures={"loss": 1.0, "loss_first": 2.0, "loss_last": 0.5, "update_norm": 0.1, "learning_rate": 0.01},
    state=MATRIX,
    second_moment=MATRIX,
    extra={"input_gram": MATRIX, "canonical_second_moment": MATRIX, "control_change": MATRIX},
)


def test_what_is_allowed_leaves_as_it_is():
    assert only_allowed(REPLY, site_of()).to_tensors()[0] == REPLY.to_tensors()[0]
    assert list(sent_names(REPLY)) == [
        "projector",
        "second moments",
        "gram matrices",
        "control variates",
        "losses",
        "alignment error",
        "counts",
    ]


TENSORS = {
    "projector": {"state": MATRIX},
    "second moments": {"second_moment": MATRIX},
    "gram matrices": {"extra": {"input_gram": MATRIX}},
    "control variates": {"extra": {"control_change": MATRIX}},
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_are_not_allowed_do_not_leave(kind):
    bare = replace(REPLY, state={}, second_moment={}, extra={})
    reply = replace(bare, **TENSORS[kind])
    assert only_allowed(reply, site_of(send={"allow": [kind]})).num_bytes == reply.num_bytes
    with pytest.raises(Declined, match=f"{kind}: asked for by the server, but not in send.allow"):
        only_allowed(reply, without(kind))
    assert only_allowed(bare, without(kind)).num_bytes == 0


def test_second_moments_under_another_name_and_encoded_updates_count_too():
    with pytest.raises(Declined, match="second moments"):
        only_allowed(
            replace(REPLY, second_moment={}, extra={"canonical_second_moment": MATRIX}), without("second moments")
        )
    with pytest.raises(Declined, match="projector"):
        only_allowed(replace(REPLY, state={}, update=MATRIX, second_moment={}, extra={}), without("projector"))


def test_what_nobody_has_a_word_for_never_leaves():
    with pytest.raises(Declined, match="pixels: asked for by the server"):
        only_allowed(replace(REPLY, extra={"pixels": MATRIX}), site_of())


def test_figures_that_are_not_allowed_are_taken_out():
    quiet = only_allowed(REPLY, without("losses", "alignment error"))
    assert quiet.figures == {"update_norm": 0.1, "learning_rate": 0.01}
    assert quiet.alignment_error == 0.0
    assert not {"losses", "alignment error"} & set(sent_names(quiet))


def test_losses_on_held_out_pairs_are_only_reported_where_they_are_allowed():
    recipe = recipe_of("fedavg")
    check_judging(recipe, "fedavg", site_of())
    with pytest.raises(Declined, match=r"losses are not in send\.allow"):
        check_judging(recipe, "fedavg", without("losses"))
    with pytest.raises(Declined, match="method moon: is not one of this run's: fedavg"):
        check_judging(recipe, "moon", site_of())


def test_what_an_answer_holds_is_named():
    admission = Admission(release="0.2.0", usable=60, vision_width=64, text_width=96, vision=HASH, language=HASH)
    holding = Holding(train=4, groups={}, bad_pairs={}, missing_pairs=0, pairs=[])
    judged = Judged(losses={"all": 1.0}, tokens={"all": 4}, captions=2, seconds=1.0)
    assert [list(sent_names(one)) for one in (admission, holding, judged)] == [
        ["counts"],
        ["counts"],
        ["losses", "counts"],
    ]
    for one in (Working(job=HASH, steps=1, of=2), NotKnown(what="job"), Refusal(reason="", accepted=True)):
        assert list(sent_names(one)) == []


def assignment_of(**changes):
    own = {"learning_rate": 0.01, "forms": forms("float32"), "error_feedback": True, "state": MATRIX}
    return Assignment(**{"round": 2} | own | changes)


def test_an_assignment_of_the_accepted_recipe_is_carried_out():
    check_assignment(recipe_of("fedavg"), "fedavg", assignment_of())
    check_assignment(recipe_of("fedavg", training={"learning_rate": 0.01}), "fedavg", assignment_of())
    check_assignment(recipe_of("fisher"), "fisher", assignment_of(with_second_moment=True))
    check_assignment(recipe_of("moon"), "moon", assignment_of(objective="moon", continues=1))
    for measured in (True, False):
        extras = ("canonical_second_moment", "input_gram")
        canonical = assignment_of(step="canonical", extras=extras, measure_only=measured)
        check_assignment(recipe_of("shared-basis"), "shared-basis", canonical)
    options = {"moon": {"objective_options": {"mu": 0.5}}}
    asked = assignment_of(objective="moon", objective_options={"mu": 0.5})
    check_assignment(recipe_of("moon", method=options), "moon", asked)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "canonical"),
        ("step_options", {"stretch": False}),
        ("extras", ("input_gram",)),  # which fedavg does not need
        ("objective", "no such objective"),
        ("objective_options", {"mu": 0.5}),
        ("objective_options", {"a": [[[]]]}),
        ("with_second_moment", True),
        ("forms", forms("int8")),
        ("error_feedback", False),
        ("keep_optimizer", True),
        ("measure_only", True),
        ("learning_rate", 10.0),
    ],
)
def test_an_assignment_that_the_recipe_does_not_lead_to_is_declined(key, value):
    recipe = recipe_of("fedavg", training={"learning_rate": 0.01})
    with pytest.raises(Declined, match=f"fedavg, round 2: its {key} is not what the run's recipe says"):
        check_assignment(recipe, "fedavg", assignment_of(**{key: value}))


def test_no_other_method_and_no_round_beyond_the_last():
    with pytest.raises(Declined, match="method moon: is not one of this run's: fedavg"):
        check_assignment(recipe_of("fedavg"), "moon", assignment_of())
    with pytest.raises(Declined, match="fedavg, round 5: the run has 4"):
        check_assignment(recipe_of("fedavg"), "fedavg", assignment_of(round=5))
