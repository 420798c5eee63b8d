import numpy as np
import pytest

from fedcmp.scenarios.describing import nearest
from fedcmp.scenarios.describing.nearest import Centres, nearest_pairs
from tests.scenarios.folders import embedding_folder
from tests.scenarios.mixtures import groups_of, unit


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    images, texts, truth = groups_of(3, 30, width=16, noise=0.3)
    folder = embedding_folder(tmp_path_factory.mktemp("nearest") / "EMB", images, texts, shard=37)
    owner = np.where(np.arange(len(truth)) % 5 == 0, -1, truth).astype(np.int32)
    rng = np.random.default_rng(4)
    centres = [unit(rng.normal(size=(3, 16))).astype(np.float32) for _ in range(2)]
    return folder, owner, *centres


def by_hand(folder, owner, cv, ct, metric, client):
    v, t = (folder.rows(part, 0, len(folder)).astype(np.float64) for part in ("image", "text"))
    values = {
        "image": v @ cv[client],
        "text": t @ ct[client],
        "joint": (v @ cv[client] + t @ ct[client]) / 2,
        "cross": (v @ ct[client] + t @ cv[client]) / 2,
    }[metric]
    mine = np.flatnonzero(owner == client)
    return [(int(row), values[row]) for row in mine[np.argsort(-values[mine], kind="stable")]]


@pytest.mark.parametrize("chunk", [1, 23, 8192])
def test_the_nearest_are_the_nearest_in_every_metric(pairs, chunk, monkeypatch):
    monkeypatch.setattr(nearest, "_CHUNK", chunk)
    folder, owner, cv, ct = pairs
    metrics = ("image", "text", "joint", "cross")
    found = nearest_pairs(folder, [Centres(owner, cv, ct, metric) for metric in metrics], 4)
    for metric, clients in zip(metrics, found, strict=True):
        for client, rows in enumerate(clients):
            expected = by_hand(folder, owner, cv, ct, metric, client)[:4]
            assert [row for row, _ in rows] == [row for row, _ in expected]
            assert [value for _, value in rows] == pytest.approx([value for _, value in expected], abs=1e-5)


def test_of_equals_the_earlier_row_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "_CHUNK", 3)
    images, texts, _ = groups_of(1, 8, width=8)
    same = np.tile(images[:1], (8, 1))
    folder = embedding_folder(tmp_path / "EMB", same, texts[:8])
    owner = np.array([0, 0, 1, 0, 0, -1, 1, 0], np.int32)
    (found,) = nearest_pairs(folder, [Centres(owner, same[:2], same[:2], "image")], 3)
    assert [[row for row, _ in rows] for rows in found] == [[0, 1, 3], [2, 6]]


def test_pieces_that_nobody_holds_are_passed_over(pairs, monkeypatch):
    monkeypatch.setattr(nearest, "_CHUNK", 10)
    folder, owner, cv, ct = pairs
    read = []
    rows = folder.rows
    monkeypatch.setattr(folder, "rows", lambda part, start, stop: read.append(start) or rows(part, start, stop))
    few = np.where(np.arange(len(owner)) // 10 == 4, 0, -1).astype(np.int32)
    told = []
    nearest_pairs(folder, [Centres(few, cv, ct, "joint")], 2, progress=lambda done, total: told.append((done, total)))
    assert read == [40, 40]
    assert told[-1] == (len(owner), len(owner))
