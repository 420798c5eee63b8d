"""Sites beneath edge servers, in one process: the flat result, and what happens when something there fails."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fedcmp.config import parse_recipe
from fedcmp.deployment.edge import Edge
from fedcmp.deployment.edge_link import EdgeLink
from fedcmp.deployment.server_run import run_server
from fedcmp.deployment.site_file import Site
from fedcmp.deployment.trainer import Trainer
from fedcmp.errors import UserError
from fedcmp.federation.flower.link import Lost
from fedcmp.runs.record_files import read_records
from fedcmp.runs.records import ClientRound, ServerRound, SiteEvent
from fedcmp.wire.site_messages import Refusal
from fedcmp.world.export import export_world
from tests.deployment.local import LocalLink, one_at_a_time, short_sleep

SITES = [f"site-{number}" for number in range(9)]
THREE_BY_THREE = {"east": SITES[:3], "south": SITES[3:6], "west": SITES[6:]}
TWO_AND_ONE = {"east": SITES[1:3]}  # of three sites; the first replies to the server itself
PAIRS = 24


@pytest.fixture(autouse=True)
def _loading(monkeypatch: pytest.MonkeyPatch) -> None:
    one_at_a_time(monkeypatch)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """site -> its own pairs, in LLaVA's format."""
    root = tmp_path_factory.mktemp("pairs")
    for number, name in enumerate(SITES):
        indices = list(range(number * PAIRS, (number + 1) * PAIRS))
        export_world(root / name, split="train", count=PAIRS, format="llava", picture="png", indices=indices)
    return root


def trainer_of(pairs: Path, name: str, state: Path) -> Trainer:
    folder = pairs / name
    data = {"format": "llava", "pairs": str(next(folder.glob("*.json"))), "images": str(folder / "images")}
    identity = {"name": name, "server": "127.0.0.1:9000", "folder": str(state)}
    return Trainer(Site.model_validate({"site": identity, "data": data}))


class Deployment:
    """Real trainers, real edges, links in threads.

    Attributes:
        trainers: site -> its trainer.
        beneath: edge -> the link to its sites.
        link: the server's.
    """

    def __init__(self, pairs: Path, place: Path, names: list[str], edges: Mapping[str, list[str]]) -> None:
        self.place, self.names, self.edges = place, names, edges
        self.trainers = {name: trainer_of(pairs, name, place / name) for name in names}
        self.beneath = {edge: LocalLink({s: self.trainers[s] for s in sites}) for edge, sites in edges.items()}
        self.said: list[str] = []
        self.judge = "sites"
        direct = {n: self.trainers[n] for n in names if not any(n in sites for sites in edges.values())}
        self.link = LocalLink(direct | {edge: self.edge(edge) for edge in edges})  # type: ignore[arg-type]

    def edge(self, name: str) -> Edge:
        """Return the edge as a process that has just been started has it."""
        say = self.said.append
        return Edge(self.beneath[name], self.place / name, say, sleep=short_sleep, pause=0.01)

    def serve(self, *methods: str, resume: bool = False, **federation: object) -> Path:
        recipe = parse_recipe(
            {
                "run": {"name": "run", "folder": str(self.place / "server"), "methods": list(methods), "seed": 3},
                "federation": {"rounds": 2, "min_clients": 1, **federation},
                "data": {"held_out": 0.2},
                "training": {"batch_size": 8, "learning_rate": 1e-3},
                "evaluation": {"captions": 30},
                "deployment": {"sites": self.names, "edges": self.edges, "poll_seconds": 60.0, "judge": self.judge},
            },
            "test",
        )
        return run_server(recipe, self.link, resume=resume, say=self.said.append, sleep=short_sleep, pause=0.01)


def projector(folder: Path) -> dict[str, torch.Tensor]:
    *_, checkpoint = sorted((folder / "checkpoints").glob("round-*"))
    return load_file(checkpoint / "projector.safetensors")


def same(found: Path, expected: Path) -> bool:
    tensors = projector(expected)
    return all(torch.equal(projector(found)[name], tensor) for name, tensor in tensors.items())


def lines(folder: Path, kind: type) -> list:
    return [record for record in read_records(folder / "metrics.jsonl") if isinstance(record, kind)]


def test_sites_beneath_an_edge_and_one_beside_it_end_as_without(pairs: Path, tmp_path: Path) -> None:
    flat = Deployment(pairs, tmp_path / "flat", SITES[:3], {}).serve("fedavg")
    deployment = Deployment(pairs, tmp_path / "tree", SITES[:3], TWO_AND_ONE)
    tree = deployment.serve("fedavg")
    assert same(tree, flat)
    clients = [(line.round, line.client_name, line.loss) for line in lines(flat, ClientRound)]
    assert [(line.round, line.client_name, line.loss) for line in lines(tree, ClientRound)] == clients
    to_server = [frame[0]["message"] for site, frame in deployment.link.frames if site == "east"]
    assert to_server.count("delegating") == 2  # one a round
    assert "training" not in to_server
    assert not any("refused" in line for line in deployment.said)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedavg", "scaffold", "moon"])
def test_three_edges_with_three_sites_each_end_as_nine_sites(pairs: Path, tmp_path: Path, method: str) -> None:
    flat = Deployment(pairs, tmp_path / "flat", SITES, {}).serve(method)
    tree = Deployment(pairs, tmp_path / "tree", SITES, THREE_BY_THREE).serve(method)
    assert same(tree, flat)


def test_a_site_that_lost_the_run_is_out_for_a_round_and_placed_again(pairs: Path, tmp_path: Path) -> None:
    deployment = Deployment(pairs, tmp_path, SITES[:3], TWO_AND_ONE)
    trainer = deployment.trainers["site-2"]
    answer, losing = trainer.answer, [True]

    def forgetful(header, tensors):
        if header["message"] == "training" and losing:
            losing.clear()
            return {"version": 2, "message": "not known", "what": "run"}, {}
        return answer(header, tensors)

    trainer.answer = forgetful  # type: ignore[method-assign]
    folder = deployment.serve("fedavg")
    assert [line.missing for line in lines(folder, ServerRound)] == [["site-2"], []]
    assert ("site-2", "missing") in {(event.client_name, event.event) for event in lines(folder, SiteEvent)}
    sent = [frame[0]["message"] for site, frame in deployment.beneath["east"].frames if site == "site-2"]
    assert sent.count("placement") == 2


@pytest.mark.slow
def test_an_edge_closes_before_the_server_does_without_a_site_that_cannot_be_reached(
    pairs: Path, tmp_path: Path
) -> None:
    deployment = Deployment(pairs, tmp_path, SITES[:3], TWO_AND_ONE)
    deployment.judge = "none"  # it would wait for the site as well
    beneath = deployment.beneath["east"]
    beneath.fault = lambda site, frame: _vanishing(beneath, site, frame)
    folder = deployment.serve("fedavg", deadline=15.0)
    assert [line.missing for line in lines(folder, ServerRound)] == [["site-2"], ["site-2"]]
    trained = {(line.round, line.client_name) for line in lines(folder, ClientRound)}
    assert trained == {(number, name) for number in (1, 2) for name in ("site-0", "site-1")}


def _vanishing(link: LocalLink, site: str, frame: object) -> str:
    if site == "site-2" and frame[0]["message"] == "training":  # type: ignore[index]
        link.down.add(site)
        return "vanish"
    return ""


def test_an_edge_that_was_killed_takes_up_the_replies_that_it_has(pairs: Path, tmp_path: Path) -> None:
    flat = Deployment(pairs, tmp_path / "flat", SITES[:3], {}).serve("fedavg")
    deployment = Deployment(pairs, tmp_path / "tree", SITES[:3], TWO_AND_ONE)
    killed: list[str] = []

    def kill(site, frame):
        """The second answer of round 2 never comes, and when the server asks again, another process is there."""
        header = frame[0]
        if header["message"] == "training" and header["assignment"]["round"] == 2 and site == "site-2" and not killed:
            killed.append(site)
            deployment.link.trainers["east"] = deployment.edge("east")  # type: ignore[assignment]
            return "vanish"
        return ""

    deployment.beneath["east"].fault = kill
    folder = deployment.serve("fedavg")
    assert killed
    assert same(folder, flat)


def test_a_rule_that_does_not_add_up_is_refused_before_anything_is_sent(pairs: Path, tmp_path: Path) -> None:
    deployment = Deployment(pairs, tmp_path, SITES[:3], TWO_AND_ONE)
    with pytest.raises(UserError, match=r"^run\.methods: knots-ties adds up in two exchanges only"):
        deployment.serve("fedavg", "knots-ties")
    assert deployment.link.frames == []


@pytest.mark.parametrize("frame", [({"message": "training"}, {}), ({}, {}), ({"message": "relay", "site": 1}, {})])
def test_an_edge_refuses_what_is_not_for_it(tmp_path: Path, frame) -> None:
    answer = Refusal.from_tensors(*Edge(LocalLink({}), tmp_path).answer(*frame))
    assert "malformed request" in answer.reason
    assert not answer.accepted


def test_a_server_hears_that_a_site_cannot_be_reached_as_of_a_message_that_was_lost(tmp_path: Path) -> None:
    edge = Edge(LocalLink({}), tmp_path)
    link = EdgeLink(LocalLink({"east": edge}), {"east": ["site-1"]})  # type: ignore[dict-item]
    assert link.online() == {"site-1"}
    sent = link.push("site-1", ({"message": "collecting"}, {}), seconds=1)
    found: list[object] = []
    while not found:
        found = [frame for _, frame in link.pull([sent])]
        short_sleep(1)
    assert found == [Lost("the edge server cannot reach it")]
