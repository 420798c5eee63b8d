"""One client of three sends what nobody should: it is refused by its name, and the other two get their round."""

import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.config.methods import choose
from fedcmp.errors import UserError
from fedcmp.federation.server import ServerSide
from fedcmp.wire.messages import Reply

SHAPES = {"linear_1.weight": (4, 3), "linear_1.bias": (4,)}


def server(tmp_path, on_bad_update):
    federation = {"on_bad_update": on_bad_update, "min_clients": 2}
    recipe = parse_recipe({"data": {"num_pairs": 100}, "federation": federation}, "test")
    initial = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    side = ServerSide("fedavg", choose("fedavg"), recipe, ("a", "b", "c"), initial, tmp_path / "waiting", 0.003)
    side.open(1, range(3))
    return side


def reply(client, **fields):
    state = {name: torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    return Reply(1, client=client, num_examples=10, alignment_error=0.5, **({"state": state} | fields))


HOSTILE = {
    "booleans": {"state": {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}},
    "whole numbers": {"state": {name: torch.ones(shape, dtype=torch.int64) for name, shape in SHAPES.items()}},
    "a scalar": {"state": {name: torch.tensor(1.0) for name in SHAPES}},
    "an update that is no payload": {"state": {}, "update": {name: torch.ones(s).bool() for name, s in SHAPES.items()}},
    "nothing": {"state": {}},
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reply_is_refused_by_its_clients_name(tmp_path, fields):
    side = server(tmp_path / "drop", "drop")
    for client in range(3):
        side.receive(reply(client, **(fields if client == 1 else {})))
    *clients, _ = side.close()
    assert [bool(line.refused) for line in clients] == [False, True, False]
    assert all(torch.equal(t, torch.full(SHAPES[name], 0.5)) for name, t in side.states["global"].items())
    side = server(tmp_path / "stop", "stop")
    side.receive(reply(0))
    with pytest.raises(UserError, match=r"client 1 \(b\)"):
        side.receive(reply(1, **fields))


def test_a_client_without_figures_has_a_record_all_the_same(tmp_path):
    side = server(tmp_path, "stop")
    for client in range(3):
        side.receive(reply(client))
    first, *_ = side.close()
    assert (first.update_norm, first.learning_rate, first.loss) == (None, None, None)
