"""The embedded world's files in the cache are what was drawn, or drawn anew."""

import shutil

import pytest

from fedcmp.preparation.world_pairs import world_pairs


def silent(_what, _done, _total):
    return None


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["pairs.json", "questions.jsonl", "images/000003.png", "sealed.json", "gone"])
def test_a_flipped_bit_in_the_cache_is_noticed(tmp_path, damage, caplog):
    source, questions = world_pairs(tmp_path, "train", 6, silent)
    folder = questions.parent
    before = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    fingerprint = source.fingerprint()
    shutil.rmtree(folder / "images") if damage == "gone" else flip(folder / damage)
    told = []
    again, _ = world_pairs(tmp_path, "train", 6, lambda what, _done, _total: told.append(what))
    assert set(told) == {"drawing train scenes"}
    assert f"{folder}: is not as it was drawn: it is drawn anew" in caplog.text
    assert again.fingerprint() == fingerprint
    assert {path.name: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_what_is_there_is_not_drawn_again(tmp_path, caplog):
    first, _ = world_pairs(tmp_path, "test", 6, silent)
    told = []
    second, _ = world_pairs(tmp_path, "test", 6, lambda what, _done, _total: told.append(what))
    assert (told, second.fingerprint(), caplog.messages) == ([], first.fingerprint(), [])


def test_worlds_are_kept_apart(tmp_path):
    """Of one split and size: other folders, other pairs, other questions."""
    embedded, asked = world_pairs(tmp_path, "train", 6, silent)
    untouched, others = world_pairs(tmp_path, "train", 6, silent, world="untouched")
    assert asked.parent.name == "train-6-revision-1"
    assert others.parent.name == "untouched-train-6-revision-1"
    assert embedded.fingerprint() != untouched.fingerprint()
    assert asked.read_bytes() != others.read_bytes()
    assert not {embedded.pair(i).caption for i in range(6)} & {untouched.pair(i).caption for i in range(6)}
    again, _ = world_pairs(tmp_path, "train", 6, silent, world="untouched")
    assert again.fingerprint() == untouched.fingerprint()
