"""The asynchronous server's half: who gets which part of which version, what fills a buffer, what is kept."""

import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.config.methods import Chosen
from fedcmp.errors import UserError
from fedcmp.federation import kept_arrivals
from fedcmp.federation.buffered import Buffered
from fedcmp.federation.participation import merges, participants
from tests.federation.asynchronous import reply_to, server, small_recipe, tensors
from tests.federation.test_hostile_replies import HOSTILE, SHAPES, reply


def parts(assignments):
    return {client: assignment.round for client, assignment in assignments.items()}


def close(side):
    """Merge, as rounds do; the number of the next merge's records is returned with them."""
    records = side.close()
    side.settled()
    side.open(records[-1].round + 1, [])
    return records


def again(side, folder, recipe):
    """A server that takes up where another one's checkpoint left off."""
    fresh = Buffered("fedavg", recipe.chosen("fedavg"), recipe, side._names, tensors(9), folder / "waiting", 0.1)
    fresh.restore(side.states, side.memory(), side.known())
    return fresh


def test_a_clients_nth_assignment_is_part_n_whatever_version_it_starts_from(tmp_path):
    recipe = small_recipe(3, 4, buffer_size=2)
    side, given = server(tmp_path, recipe), {client: [] for client in range(3)}
    order = [0, 0, 0, 1, 0, 2, 1, 1, 2, 1, 2, 2]
    versions = []
    for number, client in enumerate(order):
        for free, assignment in side.hand_out(float(number)).items():
            given[free].append(assignment)
        versions.append((client, side.out[client].version))
        assert side.receive(reply_to(client, given[client][-1], tensors(number))) == ""
        if side.is_full:
            last = side.close() if number == len(order) - 1 else close(side)
    assert {client: [a.round for a in own] for client, own in given.items()} == {key: [1, 2, 3, 4] for key in range(3)}
    assert versions[:5] == [(0, 0), (0, 0), (0, 1), (1, 0), (0, 1)]
    assert side.rounds == merges(recipe, 3) == last[-1].round == 6
    assert side.out == {}


def test_parts_of_clients_that_sampling_leaves_out_are_skipped(tmp_path):
    recipe = small_recipe(6, 5, participation=0.5, buffer_size=4)
    side = server(tmp_path, recipe)
    done = {client: [] for client in range(6)}
    while True:
        assignments = side.hand_out(0.0)
        for client, assignment in assignments.items():
            done[client].append(assignment.round)
        if not side.out:
            break
        client = min(side.out)
        side.receive(reply_to(client, _assignment_of(side, client), tensors(client)))
        if side.is_full and side._settled < 15:
            close(side)
        elif side.is_full:
            break
    wanted = {client: [] for client in range(6)}
    for number in range(1, 6):
        for client in participants(6, 0.5, number, recipe.run.seed):
            wanted[client].append(number)
    assert done == wanted
    assert merges(recipe, 6) == 4


def _assignment_of(side, client):
    return side._assignment(client)


def test_fast_clients_are_given_the_newest_version_and_old_ones_are_kept_until_they_are_back(tmp_path):
    side = server(tmp_path, small_recipe(3, 9, buffer_size=1))
    first = side.hand_out(0.0)
    newest = first[0]
    for number in range(3):
        side.receive(reply_to(0, newest, tensors(number)))
        (_, record) = close(side)
        newest = side.hand_out(float(number))[0]
        assert torch.equal(newest.state["linear.bias"], side.states["global"]["linear.bias"])
        assert record.diagnostics["staleness"] == 0
    versions = {name.split("/")[0] for name in side.memory() if name.startswith("version")}
    assert versions == {"version-0", "version-3"}
    side.receive(reply_to(1, first[1], tensors(4)))
    client, record = close(side)
    assert (client.staleness, client.part, client.round) == (3, 1, 4)
    side.hand_out(4.0)
    side.receive(reply_to(2, first[2], tensors(5)))
    close(side)
    assert {name.split("/")[0] for name in side.memory() if name.startswith("version")} == {"version-3", "version-4"}


def test_what_nobody_is_asked_for_is_ignored(tmp_path):
    side = server(tmp_path, small_recipe(3, 2, buffer_size=3))
    given = side.hand_out(0.0)
    first = reply_to(1, given[1], tensors(1))
    assert side.receive(first) == ""
    assert "part 1" in side.receive(first)
    side.hand_out(0.0)
    assert "part 1" in side.receive(first)
    assert parts(side.hand_out(0.0)) == {}


def test_a_part_that_is_late_is_given_up_and_its_client_goes_on_with_the_next(tmp_path):
    side = server(tmp_path, small_recipe(3, 2, buffer_size=2, deadline=10))
    given = side.hand_out(0.0)
    assert side.first_deadline == 10
    side.clock = 4.0
    side.receive(reply_to(0, given[0], tensors(1)))
    side.hand_out(4.0)
    side.clock = 10.0
    side.give_up_late()
    assert side.is_full  # one reply and one part without any; the other late one has to wait for the next buffer
    client, merged = close(side)
    assert (client.client, merged.missing, merged.clock) == (0, ["client-1"], 10.0)
    assert parts(side.hand_out(10.0)) == {1: 2}
    assert "part 1" in side.receive(reply_to(1, given[1], tensors(2)))
    side.give_up_late()
    assert set(side.out) == {0, 1}


def test_a_buffer_without_enough_updates_stops_the_run(tmp_path):
    side = server(tmp_path, small_recipe(3, 1, buffer_size=3, min_clients=2, deadline=1))
    given = side.hand_out(0.0)
    side.receive(reply_to(2, given[2], tensors(1)))
    side.clock = 1.0
    side.give_up_late()
    with pytest.raises(UserError, match=r"fedavg, merge 1: accepted 1 of 3 parts, .*min_clients = 2; no reply from cl"):
        side.close()


def bad(client, assignment):
    return reply_to(client, assignment, {name: t * float("nan") for name, t in tensors(1).items()})


def test_a_bad_update_stops_the_run_by_its_clients_name_or_is_left_out(tmp_path):
    side = server(tmp_path / "stop", small_recipe(3, 2, buffer_size=2))
    given = side.hand_out(0.0)
    with pytest.raises(UserError, match=r"fedavg, merge 1, client 2 \(client-2\), part 1: .*NaN.* \"drop\""):
        side.receive(bad(2, given[2]))
    assert not list((tmp_path / "stop").rglob("*.safetensors"))  # it is asked again when the run is resumed
    recipe = small_recipe(3, 2, buffer_size=2, on_bad_update="drop")
    side = server(tmp_path / "drop", recipe)
    given = side.hand_out(0.0)
    side.receive(reply_to(0, given[0], tensors(1)))
    assert side.receive(bad(2, given[2])) == ""
    good, refused, merged = close(side)
    assert (good.weight, refused.weight, "NaN" in refused.refused) == (1.0, 0.0, True)
    assert merged.diagnostics["staleness_max"] == 0


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reply_from_an_old_version_is_refused_by_its_clients_name(tmp_path, fields):
    for action in ("drop", "stop"):
        initial = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
        recipe = small_recipe(4, 2, buffer_size=2, on_bad_update=action)
        side = server(tmp_path / action, recipe, initial=initial)
        side.hand_out(0.0)
        for client in (0, 1):
            side.receive(reply(client))
        close(side)
        side.receive(reply(2))
        if action == "stop":
            with pytest.raises(UserError, match=r"client 3 \(client-3\), part 1"):
                side.receive(reply(3, **fields))
            continue
        assert side.receive(reply(3, **fields)) == ""
        good, refused, _ = side.close()
        assert (bool(good.refused), bool(refused.refused), good.staleness) == (False, True, 1)
        share = 0.5 + 0.5 / 2**0.5
        for tensor in side.states["global"].values():
            torch.testing.assert_close(tensor, torch.full(tensor.shape, share))


@pytest.mark.parametrize("payload", ["float32", "int8"])
def test_a_server_resumes_with_the_replies_that_a_killed_one_had(tmp_path, payload):
    """And with the versions that its clients are out with: the same assignments, the same bits."""
    recipe = small_recipe(4, 6, buffer_size=3, payload=payload)
    side = server(tmp_path, recipe)
    given = side.hand_out(0.0)
    for number, client in enumerate([0, 1, 0, 0]):
        side.clock = float(number)
        given |= side.hand_out(side.clock)
        side.receive(reply_to(client, given[client], tensors(number), form=payload))
        if side.is_full:
            close(side)  # and the checkpoint is written
            checkpoint = side.states, side.memory(), side.known()
    given |= side.hand_out(side.clock)
    side.clock = 5.0
    side.receive(reply_to(2, given[2], tensors(7), form=payload))
    given |= side.hand_out(side.clock)

    fresh = Buffered("fedavg", recipe.chosen("fedavg"), recipe, side._names, tensors(9), tmp_path / "waiting", 0.1)
    fresh.restore(*checkpoint)
    sent_again = fresh.open(2, [])
    assert fresh.clock == 5.0
    late = fresh.hand_out(5.0)
    assert parts(sent_again | late) == {client: out.part for client, out in side.out.items()}
    for client, assignment in (sent_again | late).items():
        assert assignment.to_tensors()[0] == given[client].to_tensors()[0]
        for name, tensor in assignment.state.items():
            assert torch.equal(tensor, given[client].state[name])
    for one in (side, fresh):
        one.receive(reply_to(3, given[3], tensors(8), form=payload))
        one.close()
    for name, tensor in side.states["global"].items():
        assert torch.equal(tensor, fresh.states["global"][name])


def test_from_a_damaged_reply_on_clients_train_again(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(kept_arrivals._LOG, "warning", lambda line, *values: said.append(line % values))
    recipe = small_recipe(4, 2, buffer_size=4)
    side = server(tmp_path, recipe)
    given = side.hand_out(0.0)
    side.clock = 1.0
    for client in (2, 0, 1):
        side.receive(reply_to(client, given[client], tensors(client)))
    first, second, third = sorted((tmp_path / "waiting" / "version-0000").iterdir())
    content = bytearray(second.read_bytes())
    content[-3] ^= 1
    second.write_bytes(content)
    fresh = server(tmp_path, recipe)
    assert "cannot be read" in said[0]
    assert (first.exists(), second.exists(), third.exists()) == (True, False, False)
    assert parts(fresh.hand_out(1.0)) == {2: 2}
    assert {client: out.part for client, out in fresh.out.items()} == {0: 1, 1: 1, 2: 2, 3: 1}
    other = server(tmp_path, recipe, initial=tensors(5))  # replies to other tensors count for nothing
    assert parts(other.hand_out(0.0)) == dict.fromkeys(range(4), 1)


@pytest.mark.parametrize(("rule", "objective"), [("shared-basis", "plain"), ("scaffold", "scaffold")])
def test_rules_that_read_what_is_measured_in_one_version_are_refused(tmp_path, rule, objective):
    recipe = small_recipe(3, 2)
    with pytest.raises(ValueError, match="in one version"):
        Buffered(rule, Chosen(rule, objective), recipe, ["a", "b", "c"], tensors(0), tmp_path, 0.1)
    with pytest.raises(UserError, match=rf'federation.mode = "async": {rule} needs synchronous rounds, for it'):
        small_recipe(3, 2, method=rule)


def test_the_number_of_merges_is_that_of_full_buffers():
    assert [merges(small_recipe(5, 4, buffer_size=size), 5) for size in (1, 3, 5, 20, 21)] == [20, 7, 4, 1, 1]
    assert merges(parse_recipe({"data": {"num_pairs": 100}, "federation": {"rounds": 7}}, "test"), 5) == 7
    assert [small_recipe(k, 1).federation.replies_per_merge(k) for k in (1, 2, 3, 10, 11, 100)] == [1, 2, 2, 2, 2, 20]
