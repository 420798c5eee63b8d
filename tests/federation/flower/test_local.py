"""A client's few lines: what the model takes, what the reply holds, what is refused and how it says so."""

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from torch import nn

from fedcmp.aggregation import create
from fedcmp.errors import UserError
from fedcmp.federation.flower import (
    AggregatorStrategy,
    array_record,
    load_arrays,
    local_optimizer,
    local_update,
    tensors_of,
)
from tests.federation.flower.apps import answering, client_app, initial, make_grid, make_model


def message_of(rule, arrays=None, **options):
    """The first message that a rule sends."""
    strategy = AggregatorStrategy(create(rule), fraction_evaluate=0.0, **options)
    grid = make_grid(client_app())
    return strategy.configure_train(1, arrays or initial(), ConfigRecord({"lr": 0.1}), grid)[0]


def test_arrays_are_copied_by_name_and_others_are_left_alone():
    model = make_model()
    message = message_of("fedavg", array_record({"2.weight": torch.full((3, 5), 2.0, dtype=torch.float64)}))
    before = model[0].weight.detach().clone()
    assert load_arrays(message, model).objective == "plain"
    assert torch.equal(model[2].weight, torch.full((3, 5), 2.0))
    assert torch.equal(model[0].weight, before)
    reply = local_update(message, model, num_examples=3)
    assert list(reply.content["arrays"]) == ["2.weight"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"9.weight": torch.ones(3)}, "the model has no tensor 9.weight"),
        ({"2.weight": torch.ones(3)}, r"2.weight is \(3,\), the model's is \(3, 5\)"),
    ],
)
def test_another_model_is_refused_by_the_tensors_name(tensors, said):
    with pytest.raises(UserError, match=said):
        load_arrays(message_of("fedavg", array_record(tensors)), make_model())


def test_second_moments_of_pytorchs_own_adamw_or_of_ours_are_the_same():
    message = message_of("fisher")
    moments = []
    for ours in (False, True):
        model = make_model()
        load_arrays(message, model)
        optimizer = (
            local_optimizer(message, model, lr=0.01)
            if ours
            else torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
        )
        for step in range(3):
            optimizer.zero_grad()
            loss = model(torch.ones(4, 6) * (step + 1)).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        moments.append(
            tensors_of(local_update(message, model, num_examples=4, optimizer=optimizer).content["second_moment"])
        )
    assert moments[0].keys() == moments[1].keys() == dict(make_model().named_parameters()).keys()
    for name, moment in moments[0].items():
        assert torch.allclose(moment, moments[1][name], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("optimizer", [None, torch.optim.SGD(make_model().parameters(), lr=0.1)])
def test_a_rule_that_reads_moments_says_what_to_pass(optimizer):
    with pytest.raises(UserError, match=r"AdamW's second moments: pass optimizer="):
        local_update(message_of("fisher"), make_model(), num_examples=4, optimizer=optimizer)


def test_shared_basis_says_which_optimizer_to_use():
    with pytest.raises(UserError, match=r"step 'canonical': step with local_optimizer"):
        local_update(message_of("shared-basis"), make_model(), num_examples=4)


def test_an_objective_that_a_loop_of_ones_own_does_not_know():
    with pytest.raises(UserError, match=r"objective 'moon'.*carry_out"):
        local_optimizer(message_of("fedavg", objective="moon"), make_model(), lr=0.1)


def test_another_strategys_or_versions_message_is_refused():
    message = message_of("fedavg")
    content = message.content
    bare = Message(RecordDict({"arrays": content["arrays"]}), 1, "train")
    with pytest.raises(UserError, match="no ConfigRecord 'fedcmp'"):
        load_arrays(bare, make_model())
    content["fedcmp"]["version"] = 3
    with pytest.raises(UserError, match="version = 3"):
        load_arrays(message, make_model())


def test_a_measuring_round_leaves_the_model_and_sends_no_arrays():
    seen = []

    def reply(message, client):
        model = make_model()
        asked = load_arrays(message, model)
        optimizer = local_optimizer(message, model, lr=0.5)
        before = model[0].weight.detach().clone()
        model(torch.ones(4, 6)).square().sum().backward()
        optimizer.step()
        content = local_update(message, model, num_examples=4, optimizer=optimizer).content
        seen.append((asked.measure_only, torch.equal(before, model[0].weight), "arrays" in content))
        return content

    strategy = AggregatorStrategy(create("shared-basis"), fraction_evaluate=0.0)
    strategy.start(make_grid(answering(reply), 2), initial(), num_rounds=1)
    assert seen == [(True, True, False)] * 2 + [(False, False, True)] * 2
