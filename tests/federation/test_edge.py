"""Three edges with three sites each end as nine sites of one server do; what goes wrong beneath an edge is named."""

import dataclasses
import math

import pytest
import torch

from fedcmp.aggregation import available, create
from fedcmp.config import dump_recipe, parse_recipe
from fedcmp.errors import UserError
from fedcmp.federation.edge import EdgeSide, check_sums, delegations
from fedcmp.federation.rounds import Events, Rounds
from fedcmp.federation.server import ServerSide
from fedcmp.preparation.prepare import prepare
from fedcmp.runs.folder import RunFolder
from fedcmp.simulation.engine import Engine
from fedcmp.wire.edge_messages import PartialSum
from tests.federation.conftest import CONTENT
from tests.federation.in_process import Unmeasured
from tests.federation.tree import Tree

EDGES = {"east": [0, 1, 2], "west": [3, 4, 5], "south": [6, 7, 8]}
MIXED = {"east": [1, 6, 7], "west": [0, 8]}  # clients in any order; 2 to 5 reply to the server itself
ONE_EXCHANGE = [name for name in available() if create(name).adds_up == "in one exchange"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory, world_cache):
    content = CONTENT | {
        "run": {**CONTENT["run"], "cache": str(world_cache)},
        "scenario": {"kind": "iid", "clients": 9},
    }
    recipe = parse_recipe(content | {"federation": {"rounds": 3}}, "test")
    folder = tmp_path_factory.mktemp("edges") / "prepared"
    prepare(recipe, folder, lambda _what, _done, _total: None)
    torch.set_num_threads(1)
    return Engine(recipe, folder)


def run(engine, place, method, edges, *, resume=False, federation=None, **unruly):
    """All rounds of one method beneath these edges; the run's folder, the server's side and the transport."""
    recipe = engine.recipe
    if federation:
        recipe = recipe.model_copy(update={"federation": recipe.federation.model_copy(update=federation)})
    folder = RunFolder(place / "run")
    if not folder.begun:
        folder.begin(dump_recipe(recipe))
    side = side_of(engine, method, place / "run", recipe)
    tree = Tree(engine, side, edges, place / "kept", method, **unruly)
    rounds = Rounds(method, recipe, side, tree, Unmeasured(), folder, first_records=[], events=Events())
    rounds.run(resume=resume, references=False)
    return folder, side, tree


_STARTS: dict[int, dict[str, torch.Tensor]] = {}


def _initial(engine):
    """The same start for every run: an engine's own tensors move as its clients train."""
    return _STARTS.setdefault(id(engine), {n: t.clone() for n, t in engine.vlm.trainable.tensors().items()})


def side_of(engine, method, place, recipe=None):
    recipe = recipe or engine.recipe
    names = engine.data.manifest.names
    return ServerSide(method, recipe.chosen(method), recipe, names, _initial(engine), place / "waiting", 0.003)


def last(folder: RunFolder):
    return folder.last().projectors["global"]


def furthest(found, expected, start):
    """The largest difference, as a share of the largest movement of its tensor."""
    return max(float((found[n] - expected[n]).abs().max() / (expected[n] - start[n]).abs().max()) for n in expected)


@pytest.fixture(scope="module")
def flat(engine, tmp_path_factory):
    """method -> the last projector of nine sites without edges."""
    known = {}

    def of(method):
        if method not in known:
            folder, side, _ = run(engine, tmp_path_factory.mktemp(f"flat-{method}"), method, {})
            known[method] = last(folder), side.memory()
        return known[method]

    return of


@pytest.mark.parametrize("method", ["fedavg", "shared-basis", "scaffold", "moon", "fedmuon", "fedadamw", "fedpac-soap"])
@pytest.mark.parametrize("edges", [EDGES, MIXED], ids=["three-by-three", "mixed"])
def test_a_tree_ends_with_the_flat_result(engine, flat, tmp_path, method, edges):
    folder, side, tree = run(engine, tmp_path, method, edges, seed=1)
    expected, memory = flat(method)
    found = last(folder)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    for name, tensor in memory.items():
        torch.testing.assert_close(side.memory()[name], tensor, rtol=1e-12, atol=1e-15)
    sums = [reply for reply in tree.received if isinstance(reply, PartialSum)]
    assert {clients for reply in sums for clients in [reply.clients]} == {tuple(sorted(c)) for c in edges.values()}
    assert not (tmp_path / "run" / "waiting").exists()


@pytest.fixture(scope="module")
def replies(engine, tmp_path_factory):
    """What nine clients reply to an assignment; each is trained once for all rules that ask the same of it."""
    known = {}

    def of(side, method, client, assignment):
        key = repr((assignment.continuing(0).header(), client, sorted(assignment.public)))
        if key not in known:
            tree = Tree(engine, side, {}, tmp_path_factory.mktemp("clients"), method)
            known[key] = tree.reply(client, assignment)
        return known[key]

    return of


@pytest.mark.parametrize("method", ONE_EXCHANGE)
def test_the_same_replies_give_the_same_tensors_and_sums_to_the_last_digits_of_float64(
    engine, replies, tmp_path, method
):
    """The bound that docs/scale.md states, for every rule: 1e-12 of each sum's largest entry, counts in float32."""
    flat, tree, whole = (side_of(engine, method, tmp_path / name) for name in ("flat", "tree", "whole"))
    for measure_only in [True, False] if flat.needs_opening else [False]:
        sums = {}
        for name, side, edges in (("flat", flat, {}), ("tree", tree, EDGES), ("whole", whole, {"all": range(9)})):
            assignments = side.open(1, list(range(9)), measure_only=measure_only)
            if measure_only or not edges:  # all three open with the same bits: the basis is the round's before
                for client, assignment in assignments.items():
                    side.receive(replies(flat, method, client, assignment))
                continue
            sums[name] = {}
            for edge, delegation in delegations(assignments, edges, side.aggregator.public()).items():
                own = EdgeSide(create(method), delegation, tmp_path / name / edge)
                for client, assignment in own.assignments.items():
                    own.receive(replies(flat, method, client, assignment))
                found = own.close()
                copied = {label: tensor.clone() for label, tensor in found.sums.items()}
                if sums[name]:
                    create(method).combine(sums[name], copied)
                else:
                    sums[name] = copied
                side.receive(found)
        for side in (flat, tree, whole):
            side.close()
    assert sums["tree"].keys() == sums["whole"].keys()
    for label, tensor in sums["whole"].items():
        if label.startswith("gram_rest."):
            continue  # what rounding has lost of another sum
        exact = 1e-12 if tensor.dtype == torch.float64 else 1e-6
        most = exact * float(tensor.abs().max()) if tensor.numel() else 0.0
        torch.testing.assert_close(sums["tree"][label], tensor, rtol=0, atol=most)
    for side in (tree, whole):
        assert furthest(side.states["global"], flat.states["global"], _initial(engine)) < 1e-6


def test_rounded_broadcasts_and_updates_end_the_same(engine, tmp_path):
    """Clients start from bfloat16 and send int8: the edge sums over the server's own tensors, not over the rounded."""
    narrow = {"payload": "int8"}
    expected, *_ = run(engine, tmp_path / "flat", "fedavg", {}, federation=narrow)
    folder, *_ = run(engine, tmp_path / "tree", "fedavg", EDGES, federation=narrow)
    assert all(torch.equal(last(folder)[name], tensor) for name, tensor in last(expected).items())


def test_records_have_a_line_for_every_site_and_no_weights(engine, tmp_path):
    flat, *_ = run(engine, tmp_path / "flat", "fedavg", {})
    tree, _, transport = run(engine, tmp_path / "tree", "fedavg", EDGES)
    mixed, *_ = run(engine, tmp_path / "mixed", "fedavg", {"one": [4]})
    of = {
        name: {(line["round"], line["client"]): line for line in folder.lines() if line["kind"] == "client"}
        for name, folder in (("flat", flat), ("tree", tree), ("mixed", mixed))
    }
    assert len(of["tree"]) == 27
    assert all("weight" not in line or line["weight"] is None for line in of["tree"].values())
    same = ["client_name", "num_examples", "loss", "update_norm", "bytes_up", "bytes_down"]
    for place, line in of["tree"].items():
        assert [line[key] for key in same] == [of["flat"][place][key] for key in same]
        assert line["arrived"] >= 0
    # an edge of one site hides nobody
    assert [line["weight"] for line in of["mixed"].values()] == [line["weight"] for line in of["flat"].values()]
    rounds = {n: [x for x in f.lines() if x["kind"] == "round"] for n, f in (("flat", flat), ("tree", tree))}
    sums = [reply for reply in transport.received if isinstance(reply, PartialSum) and reply.round == 1]
    beyond = sum({reply.client: reply.num_bytes + reply.bytes_down for reply in sums}.values())
    assert rounds["tree"][0]["bytes_sent"] == rounds["flat"][0]["bytes_sent"] + beyond > beyond > 0
    assert tree.last().state["kept"] == flat.last().state["kept"]


def test_an_edge_that_was_killed_asks_only_the_sites_whose_reply_is_missing(engine, flat, tmp_path):
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, "fedavg", EDGES, killed=(2, "south"))
    folder, _, tree = run(engine, tmp_path, "fedavg", EDGES, resume=True)
    assert sorted(client for number, client in tree.asked if number == 2) != list(range(9))
    assert sum(number == 2 and client in EDGES["south"] for number, client in tree.asked) == 2
    assert all(torch.equal(last(folder)[name], tensor) for name, tensor in flat("fedavg")[0].items())


def test_a_server_that_was_killed_keeps_the_sums_that_it_has(engine, flat, tmp_path):
    with pytest.raises(InterruptedError):
        run(engine, tmp_path, "shared-basis", EDGES, stopped=(2, 2))
    kept = list((tmp_path / "run" / "waiting" / "round-0002").iterdir())
    assert kept
    folder, _, tree = run(engine, tmp_path, "shared-basis", EDGES, resume=True)
    assert sum(number == 2 for number, _ in tree.asked) == 9 - 3 * len(kept)
    assert all(torch.equal(last(folder)[name], tensor) for name, tensor in flat("shared-basis")[0].items())


def test_a_site_that_never_replies_is_named_and_a_whole_edge_too(engine, tmp_path):
    lost = frozenset({(2, 4), *((3, client) for client in EDGES["south"])})
    folder, *_ = run(engine, tmp_path / "tree", "fedavg", EDGES, lost=lost)
    rounds = {line["round"]: line for line in folder.lines() if line["kind"] == "round"}
    assert [rounds[n].get("missing", []) for n in (1, 2, 3)] == [[], ["client-4"], [f"client-{k}" for k in (6, 7, 8)]]
    expected, *_ = run(engine, tmp_path / "flat", "fedavg", {}, lost=lost)
    assert all(torch.equal(last(folder)[name], tensor) for name, tensor in last(expected).items())


def test_a_refused_site_is_left_out_of_the_sum_or_stops_the_run_by_its_name(engine, tmp_path):
    spoiled = frozenset({(2, 4)})
    with pytest.raises(UserError, match=r"fedavg, round 2, client 4 \(client-4\): .* has the norm .*drop"):
        run(engine, tmp_path / "stop", "fedavg", EDGES, spoiled=spoiled)
    drop = {"on_bad_update": "drop"}
    folder, *_ = run(engine, tmp_path / "drop", "fedavg", EDGES, spoiled=spoiled, federation=drop)
    refused = {(x["round"], x["client"]) for x in folder.lines() if x["kind"] == "client" and x.get("refused")}
    assert refused == spoiled
    expected, *_ = run(engine, tmp_path / "flat", "fedavg", {}, spoiled=spoiled, federation=drop)
    assert all(torch.equal(last(folder)[name], tensor) for name, tensor in last(expected).items())


def test_a_sum_that_does_not_fit_its_accounts_is_refused_whole(engine, tmp_path):
    forged = frozenset({(1, "west")})
    with pytest.raises(UserError, match=r"client 3 \(client-3\): the edge's sum does not fit .*: examples must be"):
        run(engine, tmp_path / "stop", "fedavg", EDGES, forged=forged)
    drop = {"on_bad_update": "drop"}
    folder, *_ = run(engine, tmp_path / "drop", "fedavg", EDGES, forged=forged, federation=drop)
    refused = {(x["round"], x["client"]) for x in folder.lines() if x["kind"] == "client" and x.get("refused")}
    assert refused == {(1, 3), (1, 4), (1, 5)}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sum_that_is_not_finite_is_refused(engine, tmp_path, value):
    side = side_of(engine, "fedavg", tmp_path)
    assignments = side.open(1, list(range(9)))
    (delegation,) = delegations(assignments, {"east": [0, 1]}, side.aggregator.public()).values()
    own = EdgeSide(create("fedavg"), delegation, tmp_path / "east")
    tree = Tree(engine, side, {}, tmp_path / "clients", "fedavg")
    for client, assignment in own.assignments.items():
        own.receive(tree.reply(client, assignment))
    found = own.close()
    sums = {name: tensor.clone() for name, tensor in found.sums.items()}
    sums["delta.linear_1.weight"][0, 0] = value
    with pytest.raises(UserError, match=r"round 1, client 0 \(client-0\): .*NaN or infinite"):
        side.receive(dataclasses.replace(found, sums=sums))


def test_an_edge_without_replies_has_nothing_to_send(engine, tmp_path):
    side = side_of(engine, "fedavg", tmp_path)
    assignments = side.open(1, list(range(9)))
    (delegation,) = delegations(assignments, {"none": [], "east": [0, 1]}, side.aggregator.public()).values()
    own = EdgeSide(create("fedavg"), delegation, tmp_path / "east")
    assert own.close() is None
    (reply,) = [Tree(engine, side, {}, tmp_path / "clients", "fedavg").reply(2, assignments[2])]
    assert own.receive(reply) == "its client has no part in the round"
    assert "which is closed" in own.receive(dataclasses.replace(reply, round=7))


def test_rules_that_do_not_add_up_in_one_exchange_are_refused_in_one_line():
    for name in ONE_EXCHANGE:
        check_sums(name, create(name))
    with pytest.raises(UserError, match=r"^run\.methods: knots-ties adds up in two exchanges only, .*edge servers"):
        check_sums("knots-ties", create("knots-ties"))
