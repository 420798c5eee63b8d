"""Several ranks fill one store, and read tars: no pair twice, none lost, the bytes of one process."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcmp.data.sharing import build_share
from fedcmp.data.store import build_feature_store, feature_key, open_feature_store, store_folder
from fedcmp.data.tars import TarPairs
from fedcmp.distributed import Group
from fedcmp.errors import UserError
from tests.data.helpers import FakeEncoder, encoded, list_source, picture, write_tar
from tests.ranks import on_ranks

MISSING = (4, 11)
OPTIONS = {"shard_size": 6, "batch_size": 4, "max_bad_fraction": 0.2}


def files(folder: Path) -> dict[str, bytes]:
    """All of a store's files but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.suffix != ".lock"}


def fill(folder: Path, size: int, open_source, *, broken: int | None = None, **options: object) -> list[object]:
    """Build by `size` ranks, each with a source of its own; `broken` is the rank whose encoder fails."""
    options = OPTIONS | options

    def work(group: Group):
        source, encoder = open_source(), FakeEncoder(fail_after=7 if group.rank == broken else None)
        if group.rank == 0:
            build_feature_store(source, encoder, folder, group=group, call_others=group.gather, **options)
        else:
            told = {"shard_size": group.gather(None)[0]}  # when rank 0 has locked and cleared the folder
            build_share(source, encoder, folder, group=group, **options | told)
        return source

    return on_ranks(size, work)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_store_is_that_of_one_process_byte_by_byte(tmp_path: Path, size: int) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    build_feature_store(list_source(20, missing=MISSING), FakeEncoder(), alone, **OPTIONS)
    sources = fill(shared, size, lambda: list_source(20, missing=MISSING))
    assert files(shared) == files(alone)
    assert [number for source in sources for number in source.reads] == list(range(20))
    for source in sources:  # one stretch each
        assert source.reads == list(range(min(source.reads, default=0), max(source.reads, default=-1) + 1))


@pytest.mark.parametrize("broken", [0, 1])
def test_a_fill_that_a_rank_broke_off_resumes_to_the_same_bytes(tmp_path: Path, broken: int) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    key = build_feature_store(list_source(20, missing=MISSING), FakeEncoder(), alone, **OPTIONS).key
    with pytest.raises(KeyboardInterrupt):
        fill(shared, 2, lambda: list_source(20, missing=MISSING), broken=broken)
    assert not (store_folder(shared, key) / "index.json").exists()
    kept = [int(path.stem.removeprefix("shard-")) for path in store_folder(shared, key).glob("shard-*.safetensors")]
    assert kept
    sources = fill(shared, 3, lambda: list_source(20, missing=MISSING))
    assert files(shared) == files(alone)
    assert sum(len(source.reads) for source in sources) == 20 - sum(min(6, 20 - 6 * number) for number in kept)


def test_bad_pairs_of_all_ranks_count_together(tmp_path: Path) -> None:
    """Two of twenty are too many for a limit of one, though no rank has met more than one."""
    with pytest.raises(UserError, match="2 of 20 pairs are bad"):
        fill(tmp_path, 2, lambda: list_source(20, missing=(4, 19)), max_bad_fraction=0.05)


def test_a_rank_that_sees_another_disk_says_so(tmp_path: Path) -> None:
    class Other(Group):
        rank, size = 1, 2

    with pytest.raises(UserError, match="rank 1 does not see the feature store"):
        build_share(list_source(4), FakeEncoder(), tmp_path, shard_size=2, group=Other())


@given(count=st.integers(0, 500), size=st.integers(1, 40))
def test_shares_cover_everything_once(count: int, size: int) -> None:
    shares = []
    for rank in range(size):
        group = Group()
        group.rank, group.size = rank, size
        shares.append(group.share(count))
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


class Watched(TarPairs):
    """Notes the keys of the pictures that are read."""

    def __init__(self, shards: list[Path]) -> None:
        super().__init__(shards)
        self.read: list[str] = []

    def read_image(self, index: int) -> bytes:
        self.read.append(self.pair(index).key)
        return super().read_image(index)


def write_tars(folder: Path, sizes: list[int]) -> tuple[list[Path], list[str]]:
    """Tars of so many pairs each, and the pairs' keys in order."""
    sample = {"png": encoded(picture(1, (4, 4))), "txt": b"a caption"}
    tars = []
    for number, count in enumerate(sizes):
        tars.append(write_tar(folder / f"{number}.tar", [{"__key__": f"{i:04d}"} | sample for i in range(count)]))
    return tars, [f"{number}/{i:04d}" for number, count in enumerate(sizes) for i in range(count)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0),
    ranks=st.integers(1, 8),
    shard_size=st.integers(1, 7),
)
def test_tars_of_any_sizes_on_any_number_of_ranks(tmp_path_factory, sizes, ranks, shard_size) -> None:
    """Fewer tars than ranks, empty tars, fewer samples than ranks: every picture is read once."""
    folder = tmp_path_factory.mktemp("tars")
    tars, expected = write_tars(folder, sizes)
    reads = [s.read for s in fill(folder / "store", ranks, lambda: Watched(tars), shard_size=shard_size)]
    assert [key for read in reads for key in read] == expected  # in order: rank after rank, each from end to end
    key = feature_key(FakeEncoder(), TarPairs(tars))
    assert len(open_feature_store(folder / "store", key)) == len(expected)
