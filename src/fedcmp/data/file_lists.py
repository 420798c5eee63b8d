"""From what a user names to a list of files: names, braces, wildcards, folders; and whether they are the files at all.

    data/train.json              a file is itself, whatever brackets or braces its path holds
    shard-{0000..0009}.tar       braces, counted before they are expanded
    part-*.parquet               wildcards, behind the longest part of the path that is there as it is written
    dataset/                     a folder's files of the format, or those below it where it has none itself

Files of a test or validation split are not trained on unless they are named: of a folder, and of a wildcard that stands
for other files too, they are left out and counted. Which split a file is of, its name or a folder between says, by
Hugging Face's words ("test-00000-of-00001.parquet", "validation/0.tar").
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from webdataset.shardlists import expand_urls

from fedcmp.data.captions import clean_label
from fedcmp.errors import UserError
from fedcmp.files import is_pointer

MOST_FILES = 1_000_000  # that one name with braces may stand for
SPLITS_LEFT_OUT = "files of a test or validation split"
IN_SUBFOLDERS = "files in subfolders"
_LEFT_OUT = re.compile(r"(?<![a-z0-9])(test|testing|val|valid|validation|dev|eval|evaluation)(?![a-z])")
_TRAINING = re.compile(r"(?<![a-z0-9])(train|training)(?![a-z])")
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?\d+)?")
_NUMBERS = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class FileList:
    """What some names stand for.

    Attributes:
        files: those that are read, in the order of the names; of a folder or a wildcard by name.
        ignored: how many files stand beside them that are not, by reason.
    """

    files: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def expand_files(paths: Sequence[Path], endings: Sequence[str], *, what: str = "file") -> FileList:
    """Find the files that some names stand for.

    Args:
        paths: files, folders, names with braces and wildcards.
        endings: of the names of a folder's files (".tar").
        what: what a file is called in messages.

    Raises:
        UserError: a name stands for no file, for too many, or for a folder with nothing to train on.
    """
    found = FileList()
    for path in paths:
        if is_file(path):
            found.files.append(path)
        elif is_folder(path):
            _add_folder(found, path, endings, what)
        else:
            _add_pattern(found, path, what)
    return found


def split_left_out(name: str) -> bool:
    """Return whether a file of this name, or path below a folder, is of a test or validation split."""
    return bool(_LEFT_OUT.search(name.lower())) and not _TRAINING.search(name.lower())


def check_is_here(path: Path, start: bytes) -> None:
    """Refuse a file that only stands for another, or that is text of two bytes a letter.

    Args:
        path: the file.
        start: its first bytes, 64 or more.

    Raises:
        UserError: a git-lfs or git-annex pointer, or UTF-16.
    """
    if is_pointer(start):
        raise UserError(
            f"{path}: holds a git-lfs or git-annex pointer, not the data: fetch them (`git lfs pull`, `git annex get`)"
        )
    if start.startswith(_UTF_16):
        raise UserError(f"{path}: is UTF-16 text: save it as UTF-8")


def is_file(path: Path) -> bool:
    """Return whether there is a file of this name; a list in braces may be longer than any name."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Return whether there is a folder of this name."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _add_folder(found: FileList, folder: Path, endings: Sequence[str], what: str) -> None:
    below = _below(folder, tuple(endings))
    here = [path for path in below if path.parent == folder]
    listed = here or below
    if not listed:
        raise UserError(f"{folder}: no {' or '.join(endings)} files in this folder: check the path")
    used = [path for path in listed if not split_left_out(str(path.relative_to(folder)))]
    if not used:
        raise UserError(
            f"{folder}: holds {what}s of a test or validation split only, such as {listed[0].name}: to train on them "
            f"all the same, name them: {listed[0].parent / ('*' + endings[0])}"
        )
    found.files += used
    found.ignored += Counter({SPLITS_LEFT_OUT: len(listed) - len(used), IN_SUBFOLDERS: len(below) - len(listed)})


def _below(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """A folder's files with these endings and those of the folders in it, hidden ones excepted, by name."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if name.lower().endswith(endings) and not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _add_pattern(found: FileList, path: Path, what: str) -> None:
    base, rest = _literal_part(path)
    for name in _braces_expanded(path, rest):
        if glob.has_magic(name):
            matches = sorted(base / match for match in glob.glob(name, root_dir=base))  # noqa: PTH207 - has no root_dir
            matches = [match for match in matches if not match.is_dir()]
        else:
            matches = [base / name]
        if not matches or not is_file(matches[0]):
            which = f"{path}" if name == rest else f"{path}: {base / name}"
            raise UserError(f"{which}: no such {what}: check the path and the braces")
        used = [match for match in matches if not split_left_out(str(match.relative_to(base)))] or matches
        found.files += used
        found.ignored += Counter({SPLITS_LEFT_OUT: len(matches) - len(used)})


def _literal_part(path: Path) -> tuple[Path, str]:
    """Split a path behind the last folder that is there under the very name: its brackets and braces are no pattern."""
    base = path.parent
    while not is_folder(base) and base != base.parent:
        base = base.parent
    return base, str(path.relative_to(base))


def _braces_expanded(path: Path, pattern: str) -> Iterator[str]:
    try:
        count = count_expanded(pattern)
        if count > MOST_FILES:
            raise UserError(
                f"{path}: stands for {count:,} files, more than {MOST_FILES:,}: check the numbers in braces"
            )
        return iter(expand_urls(pattern))
    except (ValueError, AssertionError) as error:
        raise UserError(f"{path}: not a list of files ({error}): write for example shard-{{0000..0009}}.tar") from None


def count_expanded(pattern: str) -> int:
    """Return how many names a pattern with braces stands for at most, without expanding it."""
    total = 1
    while found := _INNERMOST.search(pattern):
        inside = found.group(1)
        numbers = _NUMBERS.fullmatch(inside)
        if numbers:
            if max(map(len, numbers.groups(default=""))) > 18:
                raise ValueError("a number in braces has more than 18 digits")
            first, last, step = (int(number or 1) for number in numbers.groups())
            total *= abs(last - first) // max(step, 1) + 1
        elif _LETTERS.fullmatch(inside):
            total *= 52  # at most
        else:
            total *= inside.count(",") + 1
        pattern = f"{pattern[: found.start()]}-{pattern[found.end() :]}"
        if total > 10**18:
            break
    return total


def file_labels(files: Sequence[Path]) -> list[str]:
    """Return the files' names without suffix, later ones of the same name numbered: "train", "train~2"."""
    labels: dict[str, None] = {}
    for path in files:
        stem = label = clean_label(path.stem)
        occurrence = 1
        while label in labels:
            occurrence += 1
            label = f"{stem}~{occurrence}"
        labels[label] = None
    return list(labels)
