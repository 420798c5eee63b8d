"""Bad replies, one by one: node and tensor are named, the round goes on or the run stops, nothing else changes."""

import logging

import pytest
import torch
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedcmp.aggregation import create
from fedcmp.errors import UserError
from fedcmp.federation.flower import AggregatorStrategy, array_record, tensors_of
from tests.federation.flower.apps import bits, broken, client_app, initial, make_grid, train

BAD_NODE = 102  # of client 2


def with_arrays(content, arrays):
    return RecordDict({**dict(content), "arrays": arrays})


def with_tensor(name, tensor):
    def change(content):
        return with_arrays(content, array_record({**tensors_of(content["arrays"]), name: tensor}))

    return change


def without(name):
    def change(content):
        return RecordDict({key: record for key, record in content.items() if key != name})

    return change


def with_metrics(**metrics):
    def change(content):
        kept = {**dict(content["metrics"]), **{name.replace("_", "-"): value for name, value in metrics.items()}}
        present = {name: value for name, value in kept.items() if value is not None}
        return RecordDict({**dict(content), "metrics": MetricRecord(present)})

    return change


def with_extra(label, name, tensor):
    def change(content):
        record = array_record({**tensors_of(content[f"extra/{label}"]), name: tensor})
        return RecordDict({**dict(content), f"extra/{label}": record})

    return change


def cut(content):
    return with_arrays(content, broken(content["arrays"], "0.bias", data=b"\x93NUMPY"))


BAD = {
    "nan": ("fedavg", with_tensor("0.weight", torch.full((5, 6), torch.nan)), "0.weight holds 30 NaN"),
    "infinite": ("fedavg", with_tensor("0.bias", torch.full((5,), torch.inf)), "0.bias holds 5 NaN or infinite"),
    "huge": ("fedavg", with_tensor("0.bias", torch.full((5,), 1e38)), "0.bias has the norm"),
    "shape": ("fedavg", with_tensor("0.bias", torch.ones(4)), "0.bias has shape (4,)"),
    "extra tensor": ("fedavg", with_tensor("x", torch.ones(4)), "extra tensor x"),
    "missing tensor": (
        "fedavg",
        lambda c: with_arrays(c, ArrayRecord({n: a for n, a in c["arrays"].items() if n != "2.weight"})),
        "tensor 2.weight is missing",
    ),
    "whole numbers": ("fedavg", with_tensor("0.bias", torch.ones(5, dtype=torch.int64)), "0.bias is torch.int64"),
    "cut bytes": ("fedavg", cut, "0.bias cannot be read"),
    "no arrays": ("fedavg", without("arrays"), "ArrayRecord 'arrays' is missing"),
    "no metrics": ("fedavg", without("metrics"), "it holds 0 MetricRecords"),
    "two metrics": ("fedavg", lambda c: RecordDict({**dict(c), "b": MetricRecord()}), "it holds 2 MetricRecords"),
    "no examples": ("fedavg", with_metrics(num_examples=None), "'num-examples' is missing"),
    "zero examples": ("fedavg", with_metrics(num_examples=0), "num-examples = 0.0: must be a whole number"),
    "half an example": ("fedavg", with_metrics(num_examples=1.5), "num-examples = 1.5"),
    "nan examples": ("fedavg", with_metrics(num_examples=float("nan")), "num-examples = nan"),
    "list of examples": ("fedavg", with_metrics(num_examples=[1]), "num-examples = [1.0]"),
    "error missing": ("fedcmp", with_metrics(alignment_error=None), "'alignment-error' is missing"),
    "error nan": ("fedcmp", with_metrics(alignment_error=float("nan")), "alignment_error = nan"),
    "no moments": ("fisher", without("second_moment"), "ArrayRecord 'second_moment' is missing"),
    "no gram": ("shared-basis", without("extra/input_gram"), "extra input_gram of 0.weight is missing"),
    "gram's shape": ("shared-basis", with_extra("input_gram", "0.weight", torch.eye(6)), "input_gram of 0.weight"),
    "negative moments": (
        "shared-basis",
        with_extra("canonical_second_moment", "2.weight", -torch.ones(3, 5)),
        "canonical_second_moment of 2.weight holds negative values",
    ),
}


def app_with(change, *, rule_round=1):
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def on_train(message, context):
        client = int(context.node_config["partition-id"])
        reply = train(message, client)
        measures = message.content["fedcmp"]["measure-only"]
        if client == 2 and not measures and message.content["fedcmp"]["round"] == rule_round:
            return Message(change(reply.content), reply_to=message)
        return reply

    return app


def strategy_of(rule, **options):
    return AggregatorStrategy(create(rule), fraction_evaluate=0.0, **options)


@pytest.mark.parametrize(("rule", "change", "said"), BAD.values(), ids=BAD)
def test_a_bad_reply_is_dropped_by_name_and_changes_nothing_else(rule, change, said, caplog):
    caplog.set_level(logging.WARNING, "flwr")
    result = strategy_of(rule).start(make_grid(app_with(change)), initial(), num_rounds=1)
    (line,) = [record.getMessage() for record in caplog.records if "goes on without it" in record.getMessage()]
    assert line.startswith(f"round 1, node {BAD_NODE}: ")
    assert said in line
    assert "client 2:" not in line  # the rule's own count is not a node's number

    def lost(node, message):
        return "drop" if node == BAD_NODE and not message.content["fedcmp"]["measure-only"] else None

    absent = strategy_of(rule).start(make_grid(client_app(), fault=lost), initial(), num_rounds=1)
    assert bits(result.arrays) == bits(absent.arrays)
    assert result.train_metrics_clientapp == absent.train_metrics_clientapp


@pytest.mark.parametrize(("rule", "change", "said"), [BAD["nan"], BAD["no examples"], BAD["no gram"]])
def test_a_bad_reply_stops_the_run_where_asked(rule, change, said):
    with pytest.raises(UserError) as caught:
        strategy_of(rule, on_bad_update="stop").start(make_grid(app_with(change)), initial(), num_rounds=1)
    assert str(caught.value).startswith(f"round 1, node {BAD_NODE}: ")
    assert said in str(caught.value)


def test_a_client_that_raises_or_is_gone_never_stops_the_run(caplog):
    caplog.set_level(logging.WARNING, "flwr")

    def fault(node, message):
        return {101: Error(5, None), 102: Error(2, "boom\nin two lines"), 103: "drop"}.get(node)

    strategy = strategy_of("fedavg", on_bad_update="stop")
    result = strategy.start(make_grid(client_app(), fault=fault), initial(), num_rounds=1)
    assert [record.getMessage() for record in caplog.records if "goes on" in record.getMessage()] == [
        "round 1, node 101: the node is gone (code 5); the round goes on without it",
        "round 1, node 102: boom in two lines (code 2); the round goes on without it",
    ]
    alone = strategy_of("fedavg", min_available_nodes=1).start(make_grid(client_app(), 1), initial(), num_rounds=1)
    assert bits(result.arrays) == bits(alone.arrays)


def test_too_few_accepted_replies_end_the_run_and_say_who_is_missing():
    def fault(node, message):
        return {100: Error(2, "boom"), 103: "drop"}.get(node)

    with pytest.raises(UserError) as caught:
        strategy_of("fedavg", min_clients=3).start(make_grid(client_app(), fault=fault), initial(), num_rounds=1)
    assert "round 1: accepted 2 of 4 clients, min_clients = 3; no reply from node 103; node 100: boom" in str(
        caught.value
    )


def test_twice_late_and_uninvited_replies_do_not_count(caplog):
    caplog.set_level(logging.WARNING, "flwr")
    old = []

    def arrange(replies):
        old.append(replies)
        if len(old) == 1:
            return replies
        return [*replies, replies[1], old[0][2]]  # node 101 twice, and node 102's of round 1 once more

    result = strategy_of("fedavg").start(make_grid(client_app(), arrange=arrange), initial(), num_rounds=2)
    lines = [record.getMessage() for record in caplog.records if "goes on" in record.getMessage()]
    assert any("node 101: it replied 2 times" in line for line in lines)
    assert any("node 102: it answers round '1', which is closed" in line for line in lines)
    lost = make_grid(client_app(), fault=lambda node, m: "drop" if node == 101 and m.metadata.group_id == "2" else None)
    assert bits(result.arrays) == bits(strategy_of("fedavg").start(lost, initial(), num_rounds=2).arrays)


def test_order_by_is_needed_of_every_reply(caplog):
    caplog.set_level(logging.WARNING, "flwr")
    with pytest.raises(UserError, match="accepted 0 of 4 clients"):
        strategy_of("fedavg", order_by="client").start(make_grid(client_app()), initial(), num_rounds=1)
    assert "metric 'client' is missing" in caplog.text


def test_too_few_nodes_are_waited_for_but_not_for_ever():
    with pytest.raises(UserError, match=r"2 nodes connected after 0\.1 s, and 5 needed"):
        strategy_of("fedavg", min_available_nodes=5, wait_seconds=0.1).start(
            make_grid(client_app(), 2), initial(), num_rounds=1
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fraction_train": 0}, "fraction_train = 0: must be above 0"),
        ({"fraction_train": float("nan")}, "fraction_train = nan"),
        ({"fraction_evaluate": 2}, "fraction_evaluate = 2"),
        ({"min_clients": 0}, "min_clients = 0"),
        ({"on_bad_update": "ignore"}, "on_bad_update = 'ignore'"),
        ({"wait_seconds": float("inf")}, "wait_seconds = inf"),
        ({"objective": "mooon"}, "objective = 'mooon'"),
        ({"objective": "canonical"}, "is a step now; write step='canonical'"),
        ({"step": "muonn"}, "step = 'muonn'"),
        ({"step": "muon", "step_options": {"x": 1}}, "step = 'muon'"),
        ({"objective": "moon", "objective_options": {"x": 1}}, "objective = 'moon'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(options, said):
    with pytest.raises(UserError) as caught:
        AggregatorStrategy(create("fedavg"), **options)
    assert said in str(caught.value)


def test_arrays_without_anything_to_merge_are_refused():
    arrays = ArrayRecord({"count": Array(torch.tensor(3).numpy())})
    with pytest.raises(UserError, match="no tensor is left to the rule"):
        strategy_of("fedavg").start(make_grid(client_app()), arrays, num_rounds=1)
