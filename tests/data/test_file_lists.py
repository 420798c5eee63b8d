"""From names to files: brackets, braces, splits, and files that only stand for others."""

import time
from pathlib import Path

import pytest

from fedcmp.data.file_lists import count_expanded, expand_files, split_left_out
from fedcmp.data.pairs import open_pairs
from fedcmp.errors import UserError

from .helpers import encoded, picture, write_llava, write_tar


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def listed(*paths: Path, endings: tuple[str, ...] = (".tar",)) -> list[str]:
    return [path.name for path in expand_files(list(paths), endings).files]


@pytest.mark.parametrize("folder", ["data [2024]", "odd{1,2}", "a*b?", "{x", "[ab]/[c]{d}"])
def test_a_folders_name_is_no_pattern(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    touch(place, "s-0.tar", "s-1.tar", "t.tar")
    assert listed(place) == ["s-0.tar", "s-1.tar", "t.tar"]
    assert listed(place / "s-*.tar") == ["s-0.tar", "s-1.tar"]
    assert listed(place / "s-{0..1}.tar") == ["s-0.tar", "s-1.tar"]
    assert listed(place / "t.tar") == ["t.tar"]
    with pytest.raises(UserError, match="no such file"):
        listed(place / "u-*.tar")


@pytest.mark.parametrize(
    "name", ["x-{00000000..99999999}.tar", "{a,b}" * 40, "x-{0..999}{0..999}{0..9}.tar", "{a..z}" * 5, "{0..9}" * 99]
)
def test_a_list_without_end_is_refused_at_once(tmp_path: Path, name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"stands for [\d,]+ files, more than 1,000,000: check the numbers in braces"):
        expand_files([tmp_path / name], [".tar"])
    assert time.monotonic() - begun < 1


def test_numbers_that_no_file_has_are_no_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a list of files"):
        expand_files([tmp_path / f"x-{{0..{10**30}}}.tar"], [".tar"])


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("x", 1),
        ("{0..9}", 10),
        ("{9..0..3}", 4),
        ("{a,b,c}-{00..99}", 300),
        ("{a,{b,c}}", 4),
        ("{x}", 1),
        ("{1..x}", 1),
    ],
)
def test_counting_is_never_too_low(pattern: str, count: int) -> None:
    assert count_expanded(pattern) == count


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("test-00000-of-00001.parquet", True),
        ("data/validation-0.parquet", True),
        ("Dev/0.tar", True),
        ("coco_val.tar", True),
        ("eval.tar", True),
        ("val2017.tar", True),
        ("train2017-test.tar", False),
        ("train-00000-of-00001.parquet", False),
        ("train/test-0.tar", False),
        ("contest-0.tar", False),
        ("latest.tar", False),
        ("devices.tar", False),
        ("part-0.tar", False),
    ],
)
def test_which_split_a_file_is_of(name: str, left_out: bool) -> None:
    assert split_left_out(name) is left_out


def test_other_splits_are_left_out_and_counted_unless_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "data/train-0.parquet", "data/train-1.parquet", "data/test-0.parquet", "data/validation-0.parquet")
    for whole in (tmp_path, tmp_path / "data", tmp_path / "data" / "*.parquet"):
        found = expand_files([whole], [".parquet"])
        assert [path.name for path in found.files] == ["train-0.parquet", "train-1.parquet"]
        assert +found.ignored == {"files of a test or validation split": 2}
    assert listed(tmp_path / "data" / "test-*.parquet") == ["test-0.parquet"]
    assert listed(tmp_path / "data" / "validation-0.parquet") == ["validation-0.parquet"]
    for path in (tmp_path / "data").glob("train*"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds files of a test or validation split only, such as test-0\.parquet"):
        expand_files([tmp_path], [".parquet"])


def test_the_folder_itself_may_be_called_test(tmp_path: Path) -> None:
    touch(tmp_path / "test", "a.tar", "b.TAR", ".hidden.tar", "deep/c.tar")
    found = expand_files([tmp_path / "test"], [".tar"])
    assert [path.name for path in found.files] == ["a.tar", "b.TAR"]
    assert +found.ignored == {"files in subfolders": 1}


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)


@pytest.mark.parametrize(
    ("format", "name"),
    [("llava", "pairs.json"), ("llava", "pairs.jsonl"), ("webdataset", "s.tar"), ("parquet", "a.parquet")],
)
def test_a_pointer_is_not_the_file(tmp_path: Path, format: str, name: str) -> None:
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(UserError, match=r"git-lfs or git-annex pointer, not the data: fetch them") as caught:
        open_pairs(format, tmp_path / name)  # type: ignore[arg-type]
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    text = '[{"image": "a.png", "caption": "a"}]'
    (tmp_path / "pairs.json").write_bytes(("\ufeff" * (encoding != "utf-16") + text).encode(encoding))
    with pytest.raises(UserError, match="is UTF-16 text: save it as UTF-8"):
        open_pairs("llava", tmp_path / "pairs.json")


@pytest.mark.parametrize("lines", [False, True])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, lines: bool) -> None:
    path = write_llava(tmp_path, [{"id": "x", "image": "a.png", "caption": "a"}], lines=lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    source = open_pairs("llava", path)
    assert (source.pair(0).key, source.rejected) == ("x", [])


def test_hugging_faces_imagefolder(tmp_path: Path) -> None:
    """Its metadata.jsonl, with images in its own folder; those of the test split are left out."""
    for split, number in (("train", 0), ("test", 1)):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.png").write_bytes(encoded(picture(number)))
        record = {"file_name": "0.png", "text": f"a caption of {split}"}
        write_llava(tmp_path / split, [record], lines=True, name="metadata.jsonl")
    source = open_pairs("llava", tmp_path)
    assert [source.pair(index).caption for index in range(len(source))] == ["a caption of train"]
    assert source.read_image(0) == encoded(picture(0))
    assert +source.ignored == {"files of a test or validation split": 1}
    both = open_pairs("llava", [tmp_path / "train", tmp_path / "test" / "metadata.jsonl"])
    assert [both.read_image(index) for index in range(2)] == [encoded(picture(0)), encoded(picture(1))]


def test_a_shard_folder_with_a_test_split(tmp_path: Path) -> None:
    for name in ("train-0", "test-0"):
        write_tar(tmp_path / f"{name}.tar", [{"__key__": name, "png": encoded(picture(0)), "txt": name.encode()}])
    source = open_pairs("webdataset", tmp_path)
    assert [source.pair(index).caption for index in range(len(source))] == ["train-0"]
    assert source.ignored == {"files of a test or validation split": 1}
