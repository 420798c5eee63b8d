import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError
from fedcmp.world.export import SPLITS, export_world
from fedcmp.world.scene import make_scenes
from fedcmp.world.untouched import UNTOUCHED


def test_llava_export_reads_back_as_the_same_scenes(tmp_path):
    folder = export_world(tmp_path / "scenes", split="validation", count=20)
    scenes = make_scenes(SPLITS["validation"], 0, 20)
    pairs = open_pairs("llava", folder / "pairs.json", folder / "images")
    assert len(pairs) == 20
    for i in range(20):
        assert pairs.pair(i).caption == scenes.captions[i]
        assert pairs.pair(i).group == scenes.families[i]
        with Image.open(folder / "images" / f"{i:06d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), scenes.images[i])


def test_webdataset_export_holds_the_same_pairs(tmp_path):
    folder = export_world(tmp_path / "shards", split="train", count=12, format="webdataset", picture="jpeg")
    scenes = make_scenes(SPLITS["train"], 0, 12)
    pairs = open_pairs("webdataset", folder / "shard-0000.tar")
    assert [pairs.pair(i).caption for i in range(12)] == scenes.captions
    with tarfile.open(folder / "shard-0000.tar") as tar:
        assert sum(name.endswith(".jpeg") for name in tar.getnames()) == 12


def test_parquet_export_holds_the_same_pairs_as_the_others(tmp_path):
    folder = export_world(tmp_path / "table", split="train", count=600, format="parquet")
    other = export_world(tmp_path / "json", split="train", count=600)
    pairs, expected = open_pairs("parquet", folder), open_pairs("llava", other / "pairs.json", other / "images")
    assert len(pairs) == 600
    for i in (0, 1, 511, 512, 599):
        assert pairs.pair(i) == expected.pair(i)
        assert pairs.read_image(i) == expected.read_image(i)
    assert (folder / "questions.jsonl").read_bytes() == (other / "questions.jsonl").read_bytes()


@pytest.mark.parametrize("format", ["llava", "webdataset", "parquet"])
def test_the_untouched_world_is_exported_with_its_own_families_and_styles(tmp_path, format):
    folder = export_world(tmp_path / "scenes", split="test", count=12, format=format, world="untouched")
    scenes = make_scenes(UNTOUCHED.streams["test"], 0, 12, world=UNTOUCHED)
    if format == "llava":
        pairs = open_pairs("llava", folder / "pairs.json", folder / "images")
        styles = [entry["style"] for entry in json.loads((folder / "pairs.json").read_text())]
        assert styles == scenes.style_names
    else:
        pairs = open_pairs(format, folder / "shard-0000.tar" if format == "webdataset" else folder)
    assert [pairs.pair(i).caption for i in range(12)] == scenes.captions
    assert [pairs.pair(i).group for i in range(12)] == scenes.families
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(pairs.read_image(3)))), scenes.images[3])


def test_questions_name_their_pictures(tmp_path):
    folder = export_world(tmp_path / "scenes", split="test", count=5)
    lines = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {f"{i:06d}" for i in range(5)}
    assert all(line["question"].startswith("question : ") and line["question"].endswith(" answer :") for line in lines)


def test_splits_share_no_scene():
    captions = [set(make_scenes(seed, 0, 2000, images=False).captions) for seed in SPLITS.values()]
    pictures = [make_scenes(seed, 0, 200).images for seed in SPLITS.values()]
    assert len(captions[0] & captions[1]) < 200  # short captions repeat by chance
    assert not any((pictures[0][i] == pictures[1]).all((1, 2, 3)).any() for i in range(200))


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        export_world(tmp_path, split="train", count=1)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_interrupted_export_leaves_nothing(tmp_path):
    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_world(tmp_path / "scenes", split="train", count=600, on_progress=stop)
    assert list(tmp_path.iterdir()) == []
