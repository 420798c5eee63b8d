"""The worker's view of a run, in this process."""

import functools
import operator

import numpy as np
import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.config.methods import LARGE_BATCH
from fedcmp.model.float8 import Float8Linear
from fedcmp.preparation.loading import load_language
from fedcmp.preparation.prepare import prepare
from fedcmp.simulation.engine import POOLED, POOLED_LARGE_BATCH, Engine, pooled_client
from fedcmp.simulation.pool import Pool


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


JOB = {
    "op": "train",
    "learning_rate": 0.01,
    "objective": "plain",
    "objective_options": {},
    "with_second_moment": True,
    "keep_optimizer": False,
}


def test_a_schedule_for_each_round_starts_every_part_with_a_warm_up(engine):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.trainable.tensors().items()}
    jobs = [JOB | {"clients": [0], "part": part} for part in range(3)]
    rates = [engine.run(job, start)[0]["clients"][0]["learning_rate"] for job in jobs]
    assert rates[0] == rates[1] == rates[2]


def test_a_client_can_be_given_a_rate_that_is_too_high(engine, monkeypatch):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.trainable.tensors().items()}
    job = JOB | {"clients": [0, 1], "part": 0}
    usual = engine.run(job, start)[0]["clients"]
    scenario = engine.recipe.scenario.model_copy(update={"rate_factors": {"1": 30.0}})
    monkeypatch.setattr(engine, "recipe", engine.recipe.model_copy(update={"scenario": scenario}))
    diverging = engine.run(job, start)[0]["clients"]
    assert diverging[0] == usual[0]
    assert diverging[1]["learning_rate"] == pytest.approx(30 * usual[1]["learning_rate"])
    assert diverging[1]["update_norm"] > 5 * usual[1]["update_norm"]


def test_a_job_names_its_tensors_and_counts_its_time(engine):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.trainable.tensors().items()}
    result, tensors = engine.run(JOB | {"clients": [1, 2], "part": 0, "keep_optimizer": True}, start)
    assert [each["num_examples"] for each in result["clients"]] == [27, 27]
    assert result["seconds"] > 0
    kinds = {"projector", "second_moment", "optimizer"}
    assert {name.split(".")[0] for name in tensors} == {f"client-{k}/{kind}" for k in (1, 2) for kind in kinds}


def test_a_cohort_ends_where_its_clients_would_end_alone(engine):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.trainable.tensors().items()}
    _, together = engine.run(JOB | {"clients": [0, 1, 2], "part": 1}, start)
    for client in range(3):
        _, alone = engine.run(JOB | {"clients": [client], "part": 1}, start)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=2e-2, atol=3e-4)


def test_a_micro_batch_changes_memory_and_not_the_result(engine, monkeypatch):
    start = {f"projector.{name}": tensor for name, tensor in engine.vlm.trainable.tensors().items()}
    _, whole = engine.run(JOB | {"clients": [0, 1], "part": 0}, start)
    training = engine.recipe.training.model_copy(update={"micro_batch": 3})
    monkeypatch.setattr(engine, "recipe", engine.recipe.model_copy(update={"training": training}))
    real, most = engine.vlm.language.caption_losses, []

    def spied(visual, ids, lengths):
        most.append(len(lengths))
        return real(visual, ids, lengths)

    monkeypatch.setattr(engine.vlm.language, "caption_losses", spied)
    _, cut = engine.run(JOB | {"clients": [0, 1], "part": 0}, start)
    assert max(most) == 3
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=2e-2, atol=3e-4)


def test_the_llm_is_loaded_as_the_recipe_says(engine):
    model = engine.recipe.model.model_copy(update={"frozen_precision": "float8", "logit_rows": 5})
    language = load_language(engine.recipe.model_copy(update={"model": model}))
    assert language.logit_rows == 5
    assert any(isinstance(module, Float8Linear) for module in language.model.modules())


def test_the_centralized_learners_differ_in_the_size_of_their_batches(engine):
    sizes = [max(map(len, engine.batches(pooled_client(method))[0])) for method in ("centralized", LARGE_BATCH)]
    assert sizes == [8, 24]
    assert flat(engine.batches(POOLED)[1]) == flat(engine.batches(POOLED_LARGE_BATCH)[1])


def test_a_job_that_fails_is_told_to_who_waits_for_it(engine, tmp_path):
    with Pool(engine.recipe, tmp_path) as pool, pytest.raises(Exception, match=r"setup\.json"):
        list(pool.map([({"op": "train"}, {})]))
