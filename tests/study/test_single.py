"""One run of a study in this process: on the untouched world, with the worst family and the worst client."""

import numpy as np
import pytest

from fedcmp.evaluation.captions import loss_of_mix
from fedcmp.runs.records import ClientData, Evaluation
from fedcmp.runs.study_records import StudyRun
from fedcmp.study import single
from fedcmp.study.plan import grid, planned_run
from fedcmp.study.recipe import load_study
from fedcmp.world.untouched import UNTOUCHED


@pytest.fixture
def untouched(content, write):
    content["base"]["data"] |= {"world": "untouched", "num_pairs": 120}
    content["study"]["suites"] = []
    return load_study(write(content))


def test_a_run_on_the_untouched_world(untouched, world_cache, monkeypatch):
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))
    run = planned_run(untouched, "iid", "fedavg", 1, grid(untouched.method["fedavg"])[0])
    record = single.run_single(run.recipe, "fedavg", pairs_hash=run.pairs_hash, suites=[])
    kept = StudyRun.from_line(record | {"hash": run.hash, "scenario": "iid", "method": "fedavg", "seed": 1})
    assert kept.final.worst_family in UNTOUCHED.families
    assert kept.final.worst_client in ("client-0", "client-1")
    assert kept.final.caption_loss > 0
    assert kept.final.worst_client_loss <= kept.final.worst_family_loss
    assert kept.values["worst_client_loss"] == kept.final.worst_client_loss


def evaluation(losses, client=None):
    return Evaluation.from_line(
        {"model": "global" if client is None else "client", "round": 2, "client": client, "caption_loss": 1.0}
        | {"group_losses": losses}
    )


def holding(client, groups):
    return ClientData.from_line({"client": client, "client_name": f"site {client}", "groups": groups})


CLIENTS = [holding(0, {"dice": 30, "dial": 10}), holding(1, {"dial": 5, "bands": 15}), holding(2, {"bands": 4})]


def test_a_clients_loss_is_that_of_its_mix_of_families():
    losses = {"dice": 0.4, "dial": 1.2, "bands": 0.7}
    by_hand = [(30 * 0.4 + 10 * 1.2) / 40, (5 * 1.2 + 15 * 0.7) / 20, 0.7]
    assert [loss_of_mix(losses, client.groups) for client in CLIENTS] == pytest.approx(by_hand)
    found = single._worst_client([evaluation(losses)], CLIENTS)
    assert found == {"worst_client": "site 1", "worst_client_loss": pytest.approx(max(by_hand))}


def test_families_without_held_out_scenes_do_not_count():
    assert loss_of_mix({"dice": 0.4}, {"dice": 1, "dial": 99}) == 0.4
    assert loss_of_mix({"dice": 0.4}, {"dial": 3}) is None
    assert loss_of_mix({}, {}) is None


def test_equal_losses_make_equal_clients():
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = {name: int(rng.integers(0, 50)) for name in "abc"} | {"d": 1}
        assert loss_of_mix(dict.fromkeys("abcd", 0.625), counts) == pytest.approx(0.625)


def test_of_local_only_runs_each_clients_own_model_counts():
    models = [evaluation({"dice": 0.1, "dial": 0.1, "bands": 9.0}, 0), evaluation({"dial": 0.3, "bands": 0.2}, 1)]
    models.append(evaluation({"dice": 9.0, "dial": 9.0, "bands": 0.25}, 2))
    assert single._worst_client(models, CLIENTS) == {"worst_client": "site 2", "worst_client_loss": 0.25}


def test_pairs_without_groups_are_judged_client_by_client():
    clients = [holding(number, {"all": 10}) for number in range(2)]
    found = single._worst_client([evaluation({"site 0": 0.5, "site 1": 0.75})], clients)
    assert found == {"worst_client": "site 1", "worst_client_loss": 0.75}
    assert single._worst_client([evaluation({"site 0": 0.5})], []) == {}
