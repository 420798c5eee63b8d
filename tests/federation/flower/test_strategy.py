"""The strategy's maths: Flower's own FedAvg, the rules themselves on the same updates, any order of replies."""

import functools
import itertools

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import ClientUpdate, available, create
from fedcmp.federation.flower import AggregatorStrategy, Asked, array_record, public_of, reply_content, tensors_of
from tests.federation.flower.apps import CLIENTS, answering, bits, client_app, initial, make_grid

ROUNDS = 3


def run(rule, *, app=None, arrange=list, rounds=ROUNDS, norm=False, options=None, **settings):
    strategy = AggregatorStrategy(create(rule, **(options or {})), **{"fraction_evaluate": 0.0, **settings})
    grid = make_grid(app or client_app(norm=norm), arrange=arrange)
    return strategy.start(grid, initial(norm=norm), num_rounds=rounds)


def recorded(rule, **options):
    """A run, and what its clients were sent and answered: round -> [(message, reply)] by client."""
    exchanged = []
    inner, app = client_app(), ClientApp()

    @app.train()
    def on_train(message, context):
        reply = inner(message, context)
        exchanged.append((Asked.of(message), message.content, reply.content, public_of(message)))
        return reply

    return run(rule, app=app, **options), exchanged


def update_of(content, state=None):
    metrics = content["metrics"]
    extra = {
        name.removeprefix("extra/"): tensors_of(record)
        for name, record in content.array_records.items()
        if name.startswith("extra/")
    }
    moment = content.array_records.get("second_moment")
    return ClientUpdate(
        state=state or tensors_of(content["arrays"]),
        num_examples=int(metrics["num-examples"]),
        alignment_error=float(metrics["alignment-error"]),
        second_moment=tensors_of(moment) if moment else None,
        extra=extra or None,
    )


@pytest.mark.parametrize("rule", [name for name in available() if name != "scaffold"])
def test_every_rule_gives_what_the_rule_itself_gives_on_the_same_updates(rule):
    result, exchanged = recorded(rule)
    aggregator, state = create(rule), tensors_of(initial())
    for _, group in itertools.groupby(exchanged, key=lambda one: (one[0].round, one[0].measure_only)):
        exchange = list(group)
        assert len(exchange) == CLIENTS
        for _, sent, _, broadcast in exchange:
            assert bits(sent["arrays"]) == bits(array_record(state))
            public = aggregator.broadcast(state)
            assert {label: bits(array_record(named)) for label, named in broadcast.items()} == {
                label: bits(array_record(named)) for label, named in public.items()
            }
        measured = state if exchange[0][0].measure_only else None
        state = aggregator.aggregate(state, [update_of(reply, measured) for _, _, reply, _ in exchange])
    assert bits(result.arrays) == bits(array_record(state))
    assert aggregator.round == ROUNDS + aggregator.opening


def test_shared_basis_measures_first_and_then_steps_in_the_basis():
    _, exchanged = recorded("shared-basis", rounds=2)
    assert [(one.round, one.measure_only, sorted(public)) for one, _, _, public in exchanged[::CLIENTS]] == [
        (1, True, []),
        (1, False, ["canonical_basis", "canonical_stretch"]),
        (2, False, ["canonical_basis", "canonical_stretch"]),
    ]
    assert {one.step for one, *_ in exchanged} == {"canonical"}
    assert all("arrays" not in reply for _, _, reply, _ in exchanged[:CLIENTS])


def fixed(states, examples):
    """Clients that answer with given tensors."""
    return answering(lambda _message, client: reply_content(states[client], num_examples=examples[client]))


def flowers_fedavg(app, arrays):
    strategy = FedAvg(fraction_evaluate=0.0)
    return strategy.start(make_grid(app), arrays, num_rounds=1).arrays


def test_fedavg_is_flowers_fedavg_bit_for_bit_where_its_sums_are_exact():
    """Equal weights of 1/4 and numbers of few bits: float32 rounds nothing, so both orders of arithmetic agree."""
    generator = torch.Generator().manual_seed(5)
    states = [{"w": torch.randint(-512, 512, (7, 3), generator=generator) / 256} for _ in range(CLIENTS)]
    app, arrays = fixed(states, [16] * CLIENTS), array_record({"w": torch.zeros(7, 3)})
    ours = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0).start(make_grid(app), arrays, num_rounds=1)
    assert bits(ours.arrays) == bits(flowers_fedavg(app, arrays))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**6), min_size=CLIENTS, max_size=CLIENTS))
def test_fedavg_is_flowers_fedavg_to_the_rounding_of_float32(seed, examples):
    """Flower rounds each product and each partial sum to float32 (2 K roundings), we round the result once."""
    generator = torch.Generator().manual_seed(seed)
    states = [{"w": 3 * torch.randn(5, 4, generator=generator)} for _ in range(CLIENTS)]
    app, arrays = fixed(states, examples), array_record({"w": torch.randn(5, 4, generator=generator)})
    ours = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0).start(make_grid(app), arrays, num_rounds=1)
    shares = np.array(examples) / sum(examples)
    magnitude = sum(share * state["w"].abs().double() for share, state in zip(shares, states, strict=True))
    bound = (2 * CLIENTS + 1) * 2.0**-24 * (magnitude + tensors_of(arrays)["w"].abs().double())
    difference = tensors_of(ours.arrays)["w"].double() - tensors_of(flowers_fedavg(app, arrays))["w"].double()
    assert bool((difference.abs() <= bound).all())


@functools.cache
def in_order(rule):
    return run(rule, rounds=2)


@settings(max_examples=15)
@given(st.permutations(range(CLIENTS)), st.sampled_from(["fedavg", "fedcmp", "shared-basis", "ties", "fisher"]))
def test_the_order_of_replies_changes_no_bit(order, rule):
    plain = in_order(rule)
    shuffled = run(rule, rounds=2, arrange=lambda replies: [replies[position] for position in order])
    assert bits(shuffled.arrays) == bits(plain.arrays)
    assert shuffled.train_metrics_clientapp == plain.train_metrics_clientapp


def test_order_by_makes_the_nodes_numbers_irrelevant():
    """As when Flower's simulation numbers its nodes anew: the client of another number is added up in its own place."""

    def by_client(places):
        def reply(_message, node):
            client = places[node]
            generator = torch.Generator().manual_seed(client)
            state = {"w": 10.0**client * torch.randn(400, generator=generator)}
            return reply_content(state, num_examples=3 + client, metrics={"client": client})

        grid = make_grid(answering(reply))
        strategy = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0, order_by="client")
        result = strategy.start(grid, array_record({"w": torch.zeros(400)}), num_rounds=1)
        assert "client" not in result.train_metrics_clientapp[1]
        return bits(result.arrays)

    assert by_client([0, 1, 2, 3]) == by_client([3, 1, 0, 2])


def test_metrics_are_means_weighted_by_examples():
    def reply(_message, client):
        metrics = {"loss": float(client), "list": [1.0, float(client)]} | ({"rare": 7} if client == 2 else {})
        return reply_content({"w": torch.ones(2)}, num_examples=1 + client, metrics=metrics)

    strategy = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0)
    result = strategy.start(make_grid(answering(reply)), array_record({"w": torch.zeros(2)}), num_rounds=1)
    mean = (0 * 1 + 1 * 2 + 2 * 3 + 3 * 4) / 10
    assert result.train_metrics_clientapp[1] == MetricRecord({"loss": mean, "list": [1.0, mean], "rare": 7.0})


def test_metrics_functions_of_the_apps_own():
    def count(contents, key):
        return MetricRecord({"replies": len(contents), "examples": sum(c["metrics"][key] for c in contents)})

    strategy = AggregatorStrategy(create("fedavg"), train_metrics_aggr_fn=count, evaluate_metrics_aggr_fn=count)
    result = strategy.start(make_grid(client_app()), initial(), num_rounds=1)
    assert result.train_metrics_clientapp[1] == MetricRecord({"replies": 4, "examples": 4 * 24 + 18})
    assert result.evaluate_metrics_clientapp[1] == MetricRecord({"replies": 4, "examples": 10})


def test_evaluation_on_clients_and_server():
    measured = []

    def evaluate(number, arrays):
        measured.append(bits(arrays))
        return MetricRecord({"number": number})

    result = AggregatorStrategy(create("fedavg")).start(
        make_grid(client_app()), initial(), num_rounds=2, evaluate_fn=evaluate
    )
    assert result.evaluate_metrics_clientapp[2] == MetricRecord({"score": (0 * 1 + 1 * 2 + 2 * 3 + 3 * 4) / 10})
    assert result.evaluate_metrics_serverapp == {number: MetricRecord({"number": number}) for number in range(3)}
    assert measured[0] == bits(initial())
    assert measured[-1] == bits(result.arrays)


def test_batch_normalisations_statistics_are_averaged_whatever_the_rule():
    result = run("shared-basis", norm=True)
    state = tensors_of(result.arrays)
    steps = (24 * 3 + 27 * 3 + 30 * 4 + 33 * 4) / 114  # 3.55 by examples, rounded every round
    assert int(state["1.num_batches_tracked"]) == round(steps) * ROUNDS
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert bool((state["1.running_var"] > 0).all())

    def reply(message, client):
        state = tensors_of(message.content["arrays"])
        state["a.running_var"], state["a.count"] = torch.tensor([1.0 + client]), torch.tensor(client)
        return reply_content(state, num_examples=1 + client)

    arrays = {"a.weight": torch.ones(1), "a.running_var": torch.zeros(1), "a.count": torch.tensor(0)}
    strategy = AggregatorStrategy(create("diloco"), fraction_evaluate=0.0)
    merged = strategy.start(make_grid(answering(reply)), array_record(arrays), num_rounds=1).arrays
    assert list(merged) == list(arrays)
    assert tensors_of(merged)["a.running_var"].tolist() == [3.0]  # (1 + 4 + 9 + 16) / 10
    assert tensors_of(merged)["a.count"].tolist() == 2


def test_bfloat16_arrays_stay_bfloat16_and_are_merged_exactly():
    def reply(message, client):
        (tensor,) = tensors_of(message.content["arrays"]).values()
        assert tensor.dtype == torch.bfloat16
        return reply_content({"w": tensor + client}, num_examples=1)

    arrays = array_record({"w": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)})
    strategy = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0)
    merged = tensors_of(strategy.start(make_grid(answering(reply)), arrays, num_rounds=2).arrays)["w"]
    assert merged.dtype == torch.bfloat16
    assert merged.tolist() == [4.0, 5.0]


def test_the_apps_config_arrives_with_the_round_and_is_not_changed():
    seen = []

    def reply(message, client):
        seen.append(dict(message.content["config"]))
        return reply_content(tensors_of(message.content["arrays"]), num_examples=1)

    config = ConfigRecord({"lr": 0.5})
    strategy = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0)
    strategy.start(make_grid(answering(reply), 2), initial(), num_rounds=2, train_config=config)
    assert seen == [{"lr": 0.5, "server-round": 1}] * 2 + [{"lr": 0.5, "server-round": 2}] * 2
    assert config == ConfigRecord({"lr": 0.5})


def test_a_client_app_written_for_flowers_fedavg_works_as_it_is():
    def reply(message, client):
        state = message.content["arrays"].to_torch_state_dict()
        metrics = MetricRecord({"train_loss": 1.0, "num-examples": 2 + client})
        moved = ArrayRecord({name: tensor + client for name, tensor in state.items()})
        return RecordDict({"arrays": moved, "metrics": metrics})

    strategy = AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0)
    result = strategy.start(make_grid(answering(reply), 2), array_record({"w": torch.zeros(2)}), num_rounds=1)
    assert tensors_of(result.arrays)["w"].tolist() == pytest.approx([0.6, 0.6])


def test_a_share_of_the_nodes_is_drawn_by_seed_and_round():
    def nodes_of(seed):
        seen = []

        def reply(message, client):
            seen.append((Asked.of(message).round, client))
            return reply_content(tensors_of(message.content["arrays"]), num_examples=1)

        strategy = AggregatorStrategy(create("fedavg"), fraction_train=0.5, fraction_evaluate=0.0, seed=seed)
        strategy.start(make_grid(answering(reply), 8), initial(), num_rounds=6)
        assert all(sum(number == one for number, _ in seen) == 4 for one in range(1, 7))
        return seen

    assert nodes_of(1) == nodes_of(1) != nodes_of(2)


def test_slow_nodes_messages_expire_with_the_round():
    sent = []
    grid = make_grid(client_app())
    push = grid.push_messages
    grid.push_messages = lambda messages: push(sent.extend(messages) or list(sent[-CLIENTS:]))
    AggregatorStrategy(create("fedavg"), fraction_evaluate=0.0).start(grid, initial(), num_rounds=1, timeout=77)
    assert {message.metadata.ttl for message in sent} == {77}
    assert all(isinstance(message, Message) for message in sent)
