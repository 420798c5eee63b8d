"""Which held-out pairs a report shows."""

import pytest

from fedcmp.data.pairs import open_pairs
from fedcmp.data.store import build_feature_store
from fedcmp.errors import UserError
from fedcmp.preparation.partition import Usable
from fedcmp.preparation.samples import choose, keep_pictures
from fedcmp.preparation.sources import Collection
from tests.data.helpers import FakeEncoder, encoded, picture, write_llava


@pytest.mark.parametrize("count", [0, 1, 3, 5, 6, 2**70])
def test_one_of_each_group_in_turn_and_never_more_than_there_are(count):
    groups = ["b", "a", "a", "c", "a"]
    assert choose(groups, count) == [1, 0, 3, 2, 4][:count]
    assert choose([], count) == []


def test_files_that_change_under_a_run_are_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    path = write_llava(tmp_path, [{"image": "a.png", "caption": "a"}])
    source = open_pairs("llava", path)
    store = build_feature_store(source, FakeEncoder(), tmp_path / "features")
    (tmp_path / "a.png").write_bytes(encoded(picture(1)))
    with pytest.raises(UserError, match=r"pairs\.json\[0\] a\.png: changed: .*start again, and leave the files alone"):
        keep_pictures(tmp_path, [0], [(source, 0)], ["all"], max_pixels=10**6)
    path.write_text("[" + " " * path.stat().st_size + "]")
    with pytest.raises(UserError, match="has changed since it was opened: start again"):
        Usable([Collection("pairs", source)], [store])
