"""A run's records say where every pair went: read = train + held out + refused + not used."""

import json
from pathlib import Path

import pytest

from fedcmp.config import parse_recipe
from fedcmp.data.llava import LlavaPairs
from fedcmp.errors import UserError
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.samples import write_samples
from fedcmp.runs.records import PairsRead
from fedcmp.world.export import export_world


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return export_world(tmp_path_factory.mktemp("base") / "base", split="train", count=40)


def records_of(base):
    return json.loads((base / "pairs.json").read_text())


def prepared(base, where, records, cache, **data):
    (where / "pairs.json").write_text(json.dumps(records))
    content = {
        "run": {"cache": str(cache), "workers": 1, "methods": ["fedavg"]},
        "data": {
            "format": "llava",
            "pairs": str(where / "pairs.json"),
            "images": str(base / "images"),
            "held_out": 0.2,
            "max_bad_fraction": 0.3,
        }
        | data,
        "scenario": {"clients": 2},
        "federation": {"rounds": 2},
        "training": {"batch_size": 8},
        "evaluation": {"captions": 3, "samples": 1},
    }
    return prepare(parse_recipe(content, "test"), where / "prepared", lambda _what, _done, _total: None)


def check(line):
    record = PairsRead(**line)
    assert record.read == record.train + record.held_out + sum(record.refused.values()) + sum(record.unused.values())
    return record


@pytest.mark.parametrize("store", [True, False])
def test_every_pair_of_ones_own_data(base, tmp_path, world_cache, caplog, store):
    records = records_of(base)
    for record in records[::2]:
        record["images"] = [record.pop("image")]
    for record in records[:5]:  # over-long, with a later turn
        record["conversations"][1]["value"] = " ".join([record["conversations"][1]["value"]] * 20)
        record["conversations"].append({"from": "gpt", "value": "and more"})
    records[7] |= {"image": "nowhere.png"}
    records[8]["conversations"][1]["value"] = " "
    del records[9]["image"]
    records[9]["conversations"][0]["value"] = "Hello."
    del records[10]["images"]  # its text still has a place for one
    data = prepared(base, tmp_path, records, world_cache, num_pairs=30, feature_store=store)
    (line,) = data.pairs_lines
    record = check(line)
    found = {"no image": 1, "empty caption": 1} | ({"missing": 1} if store else {})
    assert (record.name, record.read, record.refused) == ("pairs", 40, found)
    assert record.unused == {"text only": 1, "beyond data.num_pairs": 7}
    assert record.ignored == {"later turns of a conversation": 5}
    assert (record.captions_cut, record.judged) == (5, 3)
    assert record.held_out == 6
    assert sum(line["num_pairs"] for line in data.data_lines) == record.train
    assert "40 pairs read, 30 usable, 2 refused (1 empty caption, 1 no image), 8 not used (7 beyond" in caplog.text
    assert "5 of 30 captions were cut" in caplog.text or "5 of 29 captions were cut" in caplog.text
    assert caplog.text.count("captions were cut") == 1


def test_losses_count_against_the_limit(base, tmp_path, world_cache, monkeypatch):
    records = records_of(base)
    for record in records[:20]:
        record["photo_of_it"] = record.pop("image")
    monkeypatch.setattr(LlavaPairs, "fingerprint", lambda *_: pytest.fail("images were read"))
    with pytest.raises(UserError, match=r"at least \d+ of 40 pairs are bad, more than data\.max_bad_fraction = 0\.3"):
        prepared(base, tmp_path, records, world_cache)


def test_the_embedded_world_accounts_for_its_held_out_scenes_too(tmp_path, world_cache):
    content = {
        "run": {"cache": str(world_cache)},
        "data": {"num_pairs": 40, "max_caption_tokens": 5},
        "scenario": {"clients": 2},
        "federation": {"rounds": 2},
        "evaluation": {"captions": 8, "questions_per_kind": 0, "samples": 0},
    }
    data = prepare(parse_recipe(content, "test"), tmp_path / "prepared", lambda *_: None)
    train, test = map(check, data.pairs_lines)
    assert (train.name, train.read, train.train, train.captions_cut) == ("train", 40, 40, 40)
    assert (test.name, test.read, test.held_out, test.judged, test.captions_cut) == ("test", 8, 8, 8, 8)


def test_half_an_emoji_in_every_id_and_group_runs_through(base, tmp_path, world_cache):
    records = records_of(base)
    for number, record in enumerate(records):
        record |= {"id": f"post \ud83d{number}", "group": f"{record['group']}\ud83d"}
    data = prepared(base, tmp_path, records, world_cache)
    assert all("\ud83d" not in group for line in data.data_lines for group in line["groups"])
    Path(tmp_path / "run").mkdir()
    write_samples(tmp_path / "prepared", tmp_path / "run", [{"fedavg": "a cat"}])
    (sample,) = json.loads((tmp_path / "run" / "samples.json").read_text("utf-8"))
    assert sample["key"].startswith("post ")
    sample["key"].encode()


def test_images_that_are_replaced_are_another_run(base, tmp_path, world_cache):
    """Under their names: the old features are not taken, and a begun run is not resumed with other images."""
    own = export_world(tmp_path / "own", split="train", count=40)
    records = records_of(own)
    before = prepared(own, tmp_path, records, world_cache)
    images = sorted((own / "images").iterdir())
    contents = [path.read_bytes() for path in images]
    for path, other in zip(images, contents[1:] + contents[:1], strict=True):
        path.write_bytes(other)
    with pytest.raises(UserError, match="the data or their partition changed since the run began"):
        prepared(own, tmp_path, records, world_cache)
    (tmp_path / "new").mkdir()
    after = prepared(own, tmp_path / "new", records, world_cache)
    rows = before.train.rows[:39]
    assert (before.train.features.features(rows + 1) == after.train.features.features(rows)).all()
