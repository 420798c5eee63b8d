"""A client with the package's own training: the strategy ends with the simulation's projector, bit for bit."""

import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp

from fedcmp.config import parse_recipe
from fedcmp.errors import UserError
from fedcmp.federation.flower import AggregatorStrategy, array_record, carry_out, tensors_of
from fedcmp.preparation.prepare import prepare
from fedcmp.simulation.engine import Engine
from tests.federation.conftest import CONTENT
from tests.federation.flower.apps import make_grid
from tests.federation.test_rounds import run

METHODS = ["fedavg", "fedcmp", "shared-basis", "moon", "scaffold"]
FEDERATION = {"payload": "float32"}
RATE = 0.003  # of tests.federation.test_rounds


@pytest.fixture(scope="module")
def engine(tmp_path_factory, world_cache):
    content = CONTENT | {"run": {**CONTENT["run"], "cache": str(world_cache)}}
    folder = tmp_path_factory.mktemp("own-training") / "prepared"
    recipe = parse_recipe(content, "test")
    prepare(recipe, folder, lambda _what, _done, _total: None)
    return Engine(recipe, folder)


def own_app(engine, folder):
    app = ClientApp()

    @app.train()
    def on_train(message, context):
        client = int(context.node_config["partition-id"])
        own = folder / f"client-{client}"
        return carry_out(message, engine.client_side, client=client, folder=own, learning_rate=RATE)

    return app


def strategy_of(engine, method, **options):
    chosen = engine.recipe.chosen(method)
    return AggregatorStrategy(
        chosen.create_aggregator(),
        objective=chosen.objective,
        objective_options=chosen.objective_options,
        step=chosen.step,
        step_options=chosen.step_options,
        fraction_evaluate=0.0,
        **options,
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_simulations_projector_bit_for_bit(engine, tmp_path, method):
    folder, _ = run(engine, tmp_path / "simulated", method, federation=FEDERATION)
    simulated = folder.last().projectors["global"]
    grid = make_grid(own_app(engine, tmp_path / "flower"), 5, arrange=lambda replies: replies[::-1])
    initial = array_record(engine.vlm.trainable.tensors())
    result = strategy_of(engine, method).start(grid, initial, num_rounds=3)
    arrays = tensors_of(result.arrays)
    assert arrays.keys() == simulated.keys()
    assert all(arrays[name].equal(simulated[name]) for name in simulated)


@pytest.mark.parametrize("method", ["moon", "scaffold"])
def test_a_round_done_again_begins_with_the_clients_state_of_the_round_before(engine, tmp_path, method):
    """The server is gone after two replies to round 2: those clients are a round ahead of its checkpoint."""

    class Gone(BaseException):
        pass

    asked = []

    def fault(node, message):
        asked.append(node)
        if len(asked) == 5 + 3 and not (tmp_path / "gone").exists():
            (tmp_path / "gone").touch()
            raise Gone
        return

    def result_of(folder, fault=None, **options):
        grid = make_grid(own_app(engine, folder), 5, fault=fault)
        initial = array_record(engine.vlm.trainable.tensors())
        return tensors_of(strategy_of(engine, method, **options).start(grid, initial, num_rounds=3).arrays)

    whole = result_of(tmp_path / "whole")
    with pytest.raises(Gone):
        result_of(tmp_path / "killed", fault, checkpoint=tmp_path / "run.safetensors")
    resumed = result_of(tmp_path / "killed", checkpoint=tmp_path / "run.safetensors")
    assert all(resumed[name].equal(whole[name]) for name in whole)


def test_another_strategys_message_is_refused_in_one_line(engine, tmp_path):
    from flwr.app import ConfigRecord, RecordDict

    make_grid(ClientApp())  # a message needs a run
    content = RecordDict({"arrays": array_record(engine.vlm.trainable.tensors()), "config": ConfigRecord()})
    with pytest.raises(UserError, match="no ConfigRecord 'fedcmp'"):
        carry_out(Message(content, 1, "train"), engine.client_side, client=0, folder=tmp_path, learning_rate=RATE)
