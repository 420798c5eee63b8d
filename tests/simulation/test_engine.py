"""The worker's view of a run, in this process."""

import copy
import functools
import operator

import numpy as np
import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.config.methods import LARGE_BATCH
from fedcmp.federation.client_folder import ClientFolder
from fedcmp.model.float8 import Float8Linear
from fedcmp.preparation.batches import POOLED, POOLED_LARGE_BATCH, pooled_client
from fedcmp.preparation.loading import load_language
from fedcmp.preparation.prepare import prepare
from fedcmp.simulation.engine import Engine, read_replies, training_job
from fedcmp.simulation.pool import Pool
from fedcmp.wire.messages import Assignment
from fedcmp.wire.payload import forms


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


def replies(engine, clients, folder, *, part=0, **options):
    """What clients answer who start from the engine's own projector."""
    settings = {"learning_rate": 0.01, "forms": forms("float32"), "with_second_moment": True} | options
    assignment = Assignment(part + 1, state=engine.vlm.trainable.tensors(), **settings)
    job, tensors = training_job(dict.fromkeys(clients, assignment), {k: folder / f"client-{k}" for k in clients})
    return read_replies(*engine.run(job, tensors))


def with_recipe(engine, **sections):
    """The same pairs and model under a recipe that differs."""
    updated = {name: getattr(engine.recipe, name).model_copy(update=values) for name, values in sections.items()}
    own = copy.copy(engine)
    own.client_side = copy.copy(engine.client_side)
    own.client_side._recipe = engine.recipe.model_copy(update=updated)
    return own


def test_a_schedule_for_each_round_starts_every_part_with_a_warm_up(engine, tmp_path):
    rates = [replies(engine, [0], tmp_path, part=part)[0].figures["learning_rate"] for part in range(3)]
    assert rates[0] == rates[1] == rates[2]


def test_a_client_can_be_given_a_rate_that_is_too_high(engine, tmp_path):
    usual = replies(engine, [0, 1], tmp_path)
    diverging = replies(with_recipe(engine, scenario={"rate_factors": {"1": 30.0}}), [0, 1], tmp_path)
    assert diverging[0].figures == usual[0].figures
    assert diverging[1].figures["learning_rate"] == pytest.approx(30 * usual[1].figures["learning_rate"])
    assert diverging[1].figures["update_norm"] > 5 * usual[1].figures["update_norm"]


def test_a_reply_counts_its_samples_and_its_time(engine, tmp_path):
    found = replies(engine, [1, 2], tmp_path)
    assert [reply.client for reply in found] == [1, 2]
    assert [reply.num_examples for reply in found] == [27, 27]
    assert all(reply.seconds > 0 for reply in found)
    names = engine.vlm.trainable.tensors().keys()
    assert all(reply.state.keys() == reply.second_moment.keys() == names for reply in found)
    assert not any(reply.kept or reply.update or reply.extra for reply in found)
    assert not list(tmp_path.iterdir())  # plain training keeps nothing


def test_what_a_client_keeps_is_in_its_own_folder(engine, tmp_path):
    first = replies(engine, [1, 2], tmp_path, keep_optimizer=True)
    assert all(reply.kept for reply in first)
    for reply in first:
        kept = ClientFolder(tmp_path / f"client-{reply.client}").load(1)
        assert all(torch.equal(kept.state[name], tensor) for name, tensor in reply.state.items())
        assert {name.split(".")[0] for name in kept.optimizer} == {"exp_avg", "exp_avg_sq", "step"}


def test_a_cohort_ends_where_its_clients_would_end_alone(engine, tmp_path):
    together = replies(engine, [0, 1, 2], tmp_path, part=1)
    for joint in together:
        (alone,) = replies(engine, [joint.client], tmp_path, part=1)
        for own, other in ((joint.state, alone.state), (joint.second_moment, alone.second_moment)):
            for name, tensor in own.items():
                torch.testing.assert_close(other[name], tensor, rtol=2e-2, atol=3e-4)


def test_a_micro_batch_changes_memory_and_not_the_result(engine, monkeypatch, tmp_path):
    whole = replies(engine, [0, 1], tmp_path)
    real, most = engine.vlm.language.caption_losses, []

    def spied(visual, ids, lengths):
        most.append(len(lengths))
        return real(visual, ids, lengths)

    monkeypatch.setattr(engine.vlm.language, "caption_losses", spied)
    cut = replies(with_recipe(engine, training={"micro_batch": 3}), [0, 1], tmp_path)
    assert max(most) == 3
    for one, other in zip(whole, cut, strict=True):
        for name, tensor in one.state.items():
            torch.testing.assert_close(other.state[name], tensor, rtol=2e-2, atol=3e-4)


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
