"""Embeddings on disk: what is written comes back, and what is damaged is named."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.data.quality import Rejected
from fedcmp.errors import UserError
from fedcmp.scenarios.building import BuildOptions, build_scenario
from fedcmp.scenarios.embeddings.folder import (
    BAD_PAIRS,
    INDEX,
    EmbeddingFolder,
    TornEmbeddings,
    bad_id,
    check_units,
    read_embedding_shard,
    write_embedding_shard,
    write_index,
)
from tests.scenarios.folders import embedding_folder
from tests.scenarios.mixtures import groups_of, unit

MODEL = {"name": "a model", "fingerprint": "f" * 64}
SOURCE = {"name": "pairs.json", "fingerprint": "0" * 64, "format": "llava", "pairs": ["/pairs.json"], "images": None}


def vectors(rows, width=8, seed=0):
    rng = np.random.default_rng(seed)
    return [unit(rng.normal(size=(rows, width))).astype(np.float32) for _ in range(2)]


def write(folder, sizes, *, width=8, names=None, bad=()):
    """Shards of some sizes; returns ids, images and texts of all. `bad`: numbers of the shards with a bad pair more."""
    folder.mkdir(exist_ok=True)
    shards, ids, images, texts, first = [], [], [], [], 0
    for number, rows in enumerate(sizes):
        mine = names[first : first + rows] if names else [f"pair-{first + row}" for row in range(rows)]
        image, text = vectors(rows, width, seed=number)
        lost = [Rejected(f"lost-{number}", f"pairs.json[{number}]", "missing")] if number in bad else []
        stop = first + rows + len(lost)
        path = folder / f"shard-{number:05d}.safetensors"
        shards.append(write_embedding_shard(path, mine, image, text, key="k", first=first, stop=stop, bad=lost))
        ids, images, texts, first = [*ids, *mine], [*images, image], [*texts, text], stop
    write_index(folder, shards, width=width, model=MODEL, source=SOURCE, rejected=[Rejected("x", "x", "no caption")])
    return ids, np.concatenate(images).astype(np.float16), np.concatenate(texts).astype(np.float16)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 9), st.data())
def test_what_is_written_comes_back(tmp_path_factory, sizes, width, data):
    folder = tmp_path_factory.mktemp("emb")
    ids, images, texts = write(folder, sizes, width=width, bad=(0,))
    found = EmbeddingFolder(folder)
    assert (len(found), found.width, found.ids()) == (sum(sizes), width, ids)
    assert (found.model, found.source) == (MODEL, SOURCE)
    start = data.draw(st.integers(0, sum(sizes)))
    stop = data.draw(st.integers(start, sum(sizes)))
    wanted = np.array(data.draw(st.lists(st.integers(0, max(sum(sizes) - 1, 0)), max_size=9 if ids else 0)), np.int64)
    for part, expected in (("image", images), ("text", texts)):
        assert np.array_equal(found.rows(part, start, stop), expected[start:stop])
        assert np.array_equal(found.gather(part, wanted), expected[wanted])


def test_the_pairs_without_embeddings_are_named(tmp_path):
    write(tmp_path, [2, 3], bad=(1,))
    lines = [json.loads(line) for line in (tmp_path / BAD_PAIRS).read_text().splitlines()]
    assert [line["key"] for line in lines] == ["x", "lost-1"]
    assert json.loads((tmp_path / INDEX).read_text())["bad_pairs"] == 2
    shard, width = read_embedding_shard(tmp_path / "shard-00001.safetensors", key="k")
    assert (shard.rows, shard.first, shard.stop, width) == (3, 2, 6, 8)
    assert shard.bad == (Rejected("lost-1", "pairs.json[1]", "missing", ""),)


def test_equal_embeddings_are_equal_files_with_one_fingerprint(tmp_path):
    prints = set()
    for name in ("one", "two"):
        write(tmp_path / name, [3, 2])
        prints.add(EmbeddingFolder(tmp_path / name).fingerprint)
    assert len(prints) == 1
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    write(tmp_path / "three", [3, 2], names=["a", "b", "c", "d", "e"])
    assert EmbeddingFolder(tmp_path / "three").fingerprint not in prints


def test_any_damage_to_a_shard_is_found(tmp_path):
    write(tmp_path, [4])
    path = tmp_path / "shard-00000.safetensors"
    whole = path.read_bytes()
    assert read_embedding_shard(path, key="k")[0].rows == 4
    with pytest.raises(TornEmbeddings, match="belongs to other embeddings"):
        read_embedding_shard(path, key="other")
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            read_embedding_shard(path, key="k")
        except TornEmbeddings:
            continue
        raise AssertionError(f"byte {at} may be changed")
    for content in (b"", whole[:7], whole[:-1], whole[: len(whole) // 2], b"\xff" * 400):
        path.write_bytes(content)
        with pytest.raises(TornEmbeddings, match="cut off or damaged"):
            read_embedding_shard(path, key="k")
    path.unlink()
    with pytest.raises(TornEmbeddings, match="missing"):
        read_embedding_shard(path, key="k")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / INDEX).unlink(), r"embeddings\.json: not there: run `fedcmp scenario embed`"),
        (lambda folder: (folder / INDEX).write_text('{"format": 1, "wid'), r"embeddings\.json: no readable embeddings"),
        (lambda folder: (folder / INDEX).write_text("[]"), r"embeddings\.json: no readable embeddings"),
        (
            lambda folder: (folder / INDEX).write_text((folder / INDEX).read_text().replace('t": 1', 't": 9')),
            "format 9, not 1",
        ),
        (lambda folder: (folder / "shard-00001.safetensors").unlink(), r"shard-00001\.safetensors: is missing"),
        (lambda folder: cut(folder / "shard-00001.safetensors", 1), r"shard-00001\.safetensors: is cut off"),
        (lambda folder: cut(folder / "shard-00001.safetensors", 10**6), r"shard-00001\.safetensors: is damaged"),
        (lambda folder: (folder / "shard-00001.safetensors").write_bytes(b"\xff" * 99), "is damaged"),
        (lambda folder: mix(folder), r"image is F16 \[3, 5\], but embeddings\.json says F16 \[3, 8\]: shards of two"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(tmp_path, change, message):
    write(tmp_path, [2, 3])
    change(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        EmbeddingFolder(tmp_path)
    assert "\n" not in str(caught.value)


def cut(path, count):
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - count)])


def mix(folder):
    ids = [f"pair-{number}" for number in range(2, 5)]
    write_embedding_shard(folder / "shard-00001.safetensors", ids, *vectors(3, 5), key="k", first=2, stop=5)


def test_a_shard_that_is_cut_after_opening_is_named(tmp_path):
    write(tmp_path, [2, 30])
    found = EmbeddingFolder(tmp_path)
    cut(tmp_path / "shard-00001.safetensors", 700)
    with pytest.raises(UserError, match=r"shard-00001\.safetensors: ends early"):
        found.rows("text", 0, 32)


def test_an_id_that_occurs_twice_is_named(tmp_path):
    write(tmp_path, [2, 2], names=["a", "b", "c", "b"])
    with pytest.raises(UserError, match="the id 'b' occurs twice"):
        EmbeddingFolder(tmp_path).ids()


@pytest.mark.parametrize("tensor", ["ids", "image", "text"])
def test_a_flipped_bit_is_found_before_a_scenario_is_built(tmp_path, tensor):
    images, texts, _ = groups_of(2, per=10, seed=0)
    found = embedding_folder(tmp_path / "EMB", images, texts, shard=8)
    found.verify()
    path = tmp_path / "EMB" / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    data[8 + length + json.loads(data[8 : 8 + length])[tensor]["data_offsets"][1] - 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"shard-00001\.safetensors: holds other bytes than were written: remove it"):
        build_scenario(EmbeddingFolder(tmp_path / "EMB"), BuildOptions(clients=2, rounds=2))


@pytest.mark.parametrize("rows", [2**70, 2**40, -1])
def test_rows_that_are_only_claimed_are_refused(tmp_path, rows):
    images, texts, _ = groups_of(2, per=10, seed=0)
    embedding_folder(tmp_path / "EMB", images, texts)
    path, index = tmp_path / "EMB" / "shard-00000.safetensors", tmp_path / "EMB" / INDEX
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for part in ("image", "text"):
        header[part]["shape"][0] = rows
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :])
    content = json.loads(index.read_text())
    content["shards"][0]["rows"] = rows
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"has another size than its shape|is cut off"):
        EmbeddingFolder(tmp_path / "EMB")


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\u2028", "a\x85b", "", "\ud800"])
def test_ids_that_are_no_lines_of_text_are_refused(tmp_path, name):
    assert bad_id(name) is not None
    with pytest.raises(UserError, match="rename the pair in its source") as caught:
        write(tmp_path, [2], names=["a", name])
    assert len(str(caught.value).splitlines()) == 1
    assert bad_id("Ü 写真/a b#2") is None


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "is not finite"), (3.0, r"has length .*, not 1"), (0, "has length 0, not 1")]
)
def test_rows_that_are_no_unit_vectors_are_named(tmp_path, value, message):
    image, text = vectors(3)
    text[1] = 0
    text[1, 0] = value
    with pytest.raises(UserError, match=rf"shard: text: 1 of 3 rows are no unit vectors; the one of 'b' {message}"):
        write_embedding_shard(tmp_path / "shard", ["a", "b", "c"], image, text, key="k", first=0, stop=3)
    assert not (tmp_path / "shard").exists()


def test_every_half_precision_unit_vector_passes():
    rng = np.random.default_rng(0)
    for width in (1, 2, 64, 1024):
        rows = unit(rng.normal(size=(50, width))).astype(np.float16)
        check_units(rows, [""] * 50, "here")


def test_a_shard_of_another_model_is_noticed(tmp_path):
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        rows = vectors(3, 4) if name == "one" else vectors(3, 4)[::-1]
        shard = write_embedding_shard(
            folder / "shard-00000.safetensors", ["a", "b", "c"], *rows, key=name, first=0, stop=3
        )
        write_index(folder, [shard], width=4, model={"name": name}, source={})
    (tmp_path / "one" / "shard-00000.safetensors").write_bytes(
        (tmp_path / "other" / "shard-00000.safetensors").read_bytes()
    )
    with pytest.raises(UserError, match=r"shard-00000\.safetensors: is of other embeddings"):
        EmbeddingFolder(tmp_path / "one")


def test_arrays_by_columns_are_written_by_rows(tmp_path):
    image, text = (np.asfortranarray(rows) for rows in vectors(5, 4))
    path = tmp_path / "shard"
    write_embedding_shard(path, list("abcde"), image, text, key="k", first=0, stop=5)
    assert read_embedding_shard(path, key="k")[0].rows == 5
