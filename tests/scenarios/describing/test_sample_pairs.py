import io
import json

import numpy as np
import pytest
from PIL import Image

from fedcmp.data.quality import BadPair, Rejected
from fedcmp.scenarios.describing.sample_pairs import SIDE, SamplePairs, open_source, thumbnail
from fedcmp.scenarios.embeddings.folder import EmbeddingFolder, write_embedding_shard, write_index
from tests.scenarios.mixtures import noise_like
from tests.scenarios.small_collections import embed_pairs, write_pairs


def picture(width, height):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_a_row_leads_to_its_pair_whatever_pairs_before_it_were_bad(tmp_path):
    source = write_pairs(tmp_path / "pairs", count=24)
    bad = {1, 2, 9, 17}
    shards = []
    (tmp_path / "EMB").mkdir()
    for number, (first, stop) in enumerate([(0, 10), (10, 24)]):
        good = [i for i in range(first, stop) if i not in bad]
        rows = noise_like(np.zeros((len(good), 8)))
        path = tmp_path / "EMB" / f"shard-{number}.safetensors"
        rejected = [Rejected(f"p{i:03d}", "there", "truncated") for i in sorted(bad) if first <= i < stop]
        names = [source.pair(i).key for i in good]
        shards.append(write_embedding_shard(path, names, rows, rows, key="k", first=first, stop=stop, bad=rejected))
    write_index(tmp_path / "EMB", shards, width=8, model={}, source={})
    folder = EmbeddingFolder(tmp_path / "EMB")
    ids = folder.ids()
    pairs = SamplePairs(source, folder, ids)
    for row, name in enumerate(ids):
        assert pairs.caption(row).endswith(f" {int(name[1:])}")
    assert SamplePairs(source, folder, [f"other{i}" for i in range(len(ids))]).caption(3) is None


def test_pictures_that_cannot_be_read_are_none(tmp_path):
    source = write_pairs(tmp_path / "pairs", count=9)
    folder = embed_pairs(tmp_path / "EMB", source, tmp_path / "pairs")
    pairs = SamplePairs(source, folder, folder.ids())
    (tmp_path / "pairs" / "images" / "4.png").unlink()
    (tmp_path / "pairs" / "images" / "5.png").write_bytes(b"no picture")
    assert [pairs.thumbnail(row) is None for row in (3, 4, 5)] == [False, True, True]


@pytest.mark.parametrize(
    ("size", "shown", "format"),
    [((640, 320), (SIDE, SIDE // 2), "JPEG"), ((100, 20), (100, 20), "JPEG"), ((32, 32), (32, 32), "PNG")],
)
def test_thumbnails_are_small_and_the_same_twice(size, shown, format):
    content = thumbnail(picture(*size))
    image = Image.open(io.BytesIO(content))
    assert (image.size, image.format) == (shown, format)
    assert thumbnail(picture(*size)) == content


def test_small_drawings_are_kept_exactly():
    kept = Image.open(io.BytesIO(thumbnail(picture(32, 16))))
    assert np.array_equal(np.asarray(kept), np.asarray(Image.open(io.BytesIO(picture(32, 16)))))


def test_what_is_no_picture_is_refused():
    with pytest.raises(BadPair):
        thumbnail(b"no picture")


def test_a_source_that_cannot_be_opened_is_told_in_one_line(tmp_path):
    source = write_pairs(tmp_path / "pairs", count=9)
    described = embed_pairs(tmp_path / "EMB", source, tmp_path / "pairs").source
    opened, why = open_source(described)
    assert (len(opened), why) == (9, "")
    assert open_source({}) == (None, "the embeddings do not say where their pairs are")
    gone, why = open_source({**described, "pairs": [str(tmp_path / "gone.json")]})
    assert gone is None
    assert "gone.json" in why
    records = json.loads((tmp_path / "pairs" / "pairs.json").read_text())
    (tmp_path / "pairs" / "pairs.json").write_text(json.dumps(records[:-1]))
    changed, why = open_source(described)
    assert changed is None
    assert why == "pairs.json: holds other pairs than when it was embedded"
