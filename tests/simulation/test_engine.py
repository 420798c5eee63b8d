"""The worker's view of a run, in this process."""

import functools
import operator

import numpy as np
import pytest

from fedcmp.config import parse_recipe
from fedcmp.simulation.engine import POOLED, Engine
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.prepare import prepare


@pytest.fixture(scope="module")
def engine(tmp_path_factory, world_cache):
    content = {
        "run": {"cache": str(world_cache), "workers": 1, "methods": ["fedavg"]},
        "data": {"num_pairs": 240},
        "scenario": {"kind": "iid", "clients": 3, "wrong_captions": {"1": 0.5}},
        "federation": {"rounds": 3},
        "training": {"batch_size": 8, "schedule": "round"},
        "evaluation": {"captions": 24, "questions_per_kind": 2, "samples": 1},
    }
    recipe = parse_recipe(content, "test")
    folder = tmp_path_factory.mktemp("engine") / "prepared"
    prepare(recipe, folder, lambda _what, _done, _total: None)
    return Engine(recipe, folder)


def flat(batches):
    return sorted(np.concatenate(batches).tolist())


def test_the_pooled_learners_part_is_the_union_of_the_clients_parts(engine):
    for part in range(3):
        clients = [flat(engine.batches(client)[part]) for client in range(3)]
        assert flat(engine.batches(POOLED)[part]) == sorted(functools.reduce(operator.iadd, clients, []))


def test_the_pooled_learner_mixes_the_clients(engine):
    owner = {pair: k for k, mine in enumerate(engine.data.manifest.holdings) for pair in mine.tolist()}
    mixed = [len({owner[pair] for pair in batch.tolist()}) for batch in engine.batches(POOLED)[0]]
    assert np.mean(mixed) > 2


def test_every_pair_is_trained_on_once(engine):
    for learner in (POOLED, 0, 1, 2):
        seen = flat([batch for part in engine.batches(learner) for batch in part])
        holdings = engine.data.manifest.holdings
        assert seen == sorted((np.concatenate(holdings) if learner == POOLED else holdings[learner]).tolist())


def test_wrong_captions_are_told_and_stay_with_their_client(engine):
    lines = {line["client"]: line["wrong_captions"] for line in engine.data.data_lines}
    assert lines == {0: 0, 1: 40, 2: 0}


def test_a_schedule_for_each_round_starts_every_part_with_a_warm_up(engine):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.projector.tensors().items()}
    job = {"op": "train", "client": 0, "learning_rate": 0.01, "with_second_moment": True, "keep_optimizer": False}
    rates = [engine.run(job | {"part": part}, start)[0]["learning_rate"] for part in range(3)]
    assert rates[0] == rates[1] == rates[2]


def test_a_job_names_its_tensors_and_counts_its_time(engine):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.projector.tensors().items()}
    job = {"op": "train", "client": 1, "part": 0, "learning_rate": 0.01, "with_second_moment": True}
    result, tensors = engine.run(job | {"keep_optimizer": True}, start)
    assert result["num_examples"] == 27
    assert result["seconds"] > 0
    assert {name.split(".")[0] for name in tensors} == {"projector", "second_moment", "optimizer"}


def test_a_job_that_fails_is_told_to_who_waits_for_it(engine, tmp_path):
    with Pool(engine.recipe, tmp_path) as pool, pytest.raises(Exception, match=r"setup\.json"):
        list(pool.map([({"op": "train"}, {})]))
