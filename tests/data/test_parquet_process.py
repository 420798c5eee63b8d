"""Parquet files that end pyarrow's process, ask for all memory or claim what they do not hold: one line each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedcmp.data import parquet, parquet_process, parquet_rows
from fedcmp.data.pairs import open_pairs
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError

from .helpers import encoded, picture
from .test_parquet import hugging_face, write

DYING = """
import os, runpy, signal
import pyarrow.parquet as pq

real = pq.ParquetFile


class Dying(real):
    def __init__(self, path, *rest, **more):
        if "dies" in str(path):
            os.abort()
        super().__init__(path, *rest, **more)

    def read_row_group(self, group, columns=None, **more):
        return self.read_row_groups([group], columns=columns, **more)

    def read_row_groups(self, groups, columns=None, **more):
        if 1 in groups and "image.bytes" in columns:
            os.kill(os.getpid(), signal.SIGSEGV)
        if columns == ["asks"]:
            raise MemoryError
        return super().read_row_groups(groups, columns=columns, **more)


pq.ParquetFile = Dying
runpy.run_path({child!r}, run_name="__main__")
"""


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[parquet_process.ParquetProcess]:
    """The process, with a pyarrow that ends it."""
    script = tmp_path / "child.py"
    script.write_text(DYING.format(child=str(parquet_process._CHILD)))
    monkeypatch.setattr(parquet_process, "_CHILD", script)
    process = parquet_process.ParquetProcess()
    for module in (parquet, parquet_rows):
        monkeypatch.setattr(module, "PARQUET", process)
    yield process
    process.close()


def test_a_file_that_ends_pyarrow_is_one_line(tmp_path: Path, dying: parquet_process.ParquetProcess) -> None:
    path = write(tmp_path / "dies.parquet", hugging_face(2))
    with pytest.raises(UserError, match=r"cannot be read as parquet \(pyarrow ended on it, SIGABRT\)") as caught:
        open_pairs("parquet", path)
    assert str(caught.value).startswith(f"{path}: ")
    good = open_pairs("parquet", write(tmp_path / "a.parquet", hugging_face(2)))  # by a new process
    assert good.read_image(1) == encoded(picture(1))


def test_a_row_group_that_ends_pyarrow_is_bad_pairs(tmp_path: Path, dying: parquet_process.ParquetProcess) -> None:
    source = open_pairs("parquet", write(tmp_path / "a.parquet", hugging_face(6)))
    for index in (2, 3, 2):
        with pytest.raises(BadPair, match=r"unreadable: .*pyarrow ended on it, SIGSEGV"):
            source.read_image(index)
    assert source.read_image(5) == encoded(picture(5))


def test_memory_that_is_not_there_is_one_line(tmp_path: Path, dying: parquet_process.ParquetProcess) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(2))
    with pytest.raises(parquet_process.ParquetError, match="it asks for more memory than may be used"):
        dying.read(path, [0], ["asks"])


def test_the_child_may_not_take_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of zeros is small on disk."""
    monkeypatch.setattr(parquet_process, "_MEMORY", 2**30)
    process = parquet_process.ParquetProcess()
    monkeypatch.setattr(parquet_rows, "PARQUET", process)
    path = tmp_path / "bomb.parquet"
    rows = pa.chunked_array([pa.array([bytes(2**20)], pa.binary())] * 1000)
    pq.write_table(pa.table({"image": rows}), path, compression="zstd", row_group_size=1000)
    assert path.stat().st_size < 2**20
    with pytest.raises(BadPair, match="unreadable"):
        parquet_rows.RowGroupReader().read(path, 0, ["image"])
    process.close()


@pytest.mark.parametrize("more", [1, 2**40])
def test_rows_that_are_only_claimed_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    path = write(tmp_path / "a.parquet", hugging_face(4))
    real: Callable[..., Any] = parquet.PARQUET.describe

    def claims(*arguments: Any) -> Any:
        schema, groups = real(*arguments)
        return schema, [group | {"rows": group["rows"] + more} for group in groups]

    monkeypatch.setattr(parquet.PARQUET, "describe", claims)
    with pytest.raises(UserError, match="do not hold the rows that they claim"):
        open_pairs("parquet", path)


def test_images_and_captions_in_lists_and_turns(tmp_path: Path) -> None:
    """As the_cauldron, LLaVA-OneVision and Flickr30k have them."""
    one, two = ({"bytes": encoded(picture(n)), "path": f"{n}.png"} for n in (1, 2))
    turns = [
        [
            {"from": "human", "value": "<image>?"},
            {"from": "gpt", "value": f"caption {n}"},
            {"from": "gpt", "value": "no"},
        ]
        for n in range(5)
    ]
    turns[4] = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "words only"}]
    columns = {"images": [[one], [two], [one, two], [], []], "conversations": turns}
    source = open_pairs("parquet", write(tmp_path / "a.parquet", columns))
    assert [source.pair(index).caption for index in range(3)] == ["caption 0", "caption 1", "caption 2"]
    assert [source.read_image(index) for index in range(2)] == [one["bytes"], two["bytes"]]
    with pytest.raises(BadPair, match="several images"):
        source.read_image(2)
    assert source.unused == {"text only": 1}
    assert [(bad.place, bad.reason) for bad in source.rejected] == [("a.parquet[3]", "no image")]
    assert source.ignored == {"later turns of a conversation": 3}
    viewed = {"jpg": [one], "txt": ["as the hub shows webdatasets"], "__key__": ["0001"], "__url__": ["x.tar"]}
    source = open_pairs("parquet", write(tmp_path / "c.parquet", viewed))
    assert (source.pair(0).key, source.pair(0).caption) == ("0001", "as the hub shows webdatasets")
    columns = {"image": [one], "caption": [["five", "captions", "of", "one", "image"]]}
    source = open_pairs("parquet", write(tmp_path / "b.parquet", columns))
    assert (source.pair(0).caption, source.ignored) == ("five", {"further captions of an image": 4})
