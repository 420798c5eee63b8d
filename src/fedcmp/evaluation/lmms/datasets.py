"""Finding a benchmark's data in a folder: nothing is fetched, everything is checked before a model is loaded.

DATASETS/POPE/...            one folder a benchmark; its name's case, "-" and "_" do not matter
    data/test-00000.parquet  as on the hub, or beside each other without data/
    dataset_dict.json, ...   as datasets' save_to_disk writes it
    test.jsonl, images/...   records whose "image" is a path; made into parquet once, in the cache
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import Benchmark
from fedcmp.evaluation.lmms.tables import read_json_rows, write_table

_MEBIBYTE = 2**20
TOY = "toy-world.json"  # beside the benchmarks' folders: says that they are none of the real ones


@dataclass(frozen=True)
class LocalData:
    """A benchmark's data.

    Attributes:
        keys: of the task file: dataset_path, dataset_kwargs, test_split.
        hash: of the files: names, sizes, first and last mebibyte of each.
        toy: they are the embedded world's items in the benchmark's format (world_tables.py).
    """

    keys: dict[str, Any]
    hash: str
    toy: bool = False


def find_dataset(benchmark: Benchmark, datasets: Path, cache: Path) -> LocalData | None:
    """Where a benchmark's data are; None where the folder has none for it, or an empty one.

    Args:
        benchmark: which.
        datasets: the folder that holds one folder a benchmark.
        cache: where JSON records are made into parquet.

    Raises:
        UserError: no such folder, or what is there is not this benchmark.
    """
    if not datasets.is_dir():
        raise UserError(f"--datasets {datasets}: no such folder; it holds one folder a benchmark")
    found = [
        place for place in sorted(datasets.iterdir()) if place.is_dir() and _plain(place.name) in benchmark.folders
    ]
    if not any(path.is_file() for place in found for path in place.rglob("*")):
        return None
    if len(found) > 1:
        names = ", ".join(place.name for place in found)
        raise UserError(f"{datasets}: {names} are all folders of {benchmark.title}; leave one there")
    folder, toy = found[0].resolve(), (datasets / TOY).is_file()
    if (folder / "dataset_dict.json").is_file():
        return _saved(benchmark, folder)
    files = _parquet_files(benchmark, folder) or _from_json(benchmark, folder, cache)
    _check_columns(benchmark, folder, set(_schema(files[0]).names))
    listed = {"data_files": {benchmark.split: [str(file) for file in files]}}
    keys = {"dataset_path": "parquet", "dataset_kwargs": listed, "test_split": benchmark.split}
    return LocalData(keys, _hash(files, folder), toy)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _parquet_files(benchmark: Benchmark, folder: Path) -> list[Path]:
    for place in benchmark.places:
        if files := sorted((folder / place).glob(f"{benchmark.split}*.parquet")):
            return files
    return sorted(folder.glob("*.parquet"))


def _saved(benchmark: Benchmark, folder: Path) -> LocalData:
    """A folder of save_to_disk; a single split counts whatever its name."""
    try:
        splits = list(json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"])
        split = benchmark.split if benchmark.split in splits else splits[0] if len(splits) == 1 else ""
        if not split:
            raise UserError(f"{folder}: has the splits {', '.join(splits)}; {benchmark.title} needs {benchmark.split}")
        features = json.loads((folder / split / "dataset_info.json").read_text(encoding="utf-8"))["features"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder}: not a folder that DatasetDict.save_to_disk wrote ({error})") from error
    _check_columns(benchmark, folder, set(features))
    files = sorted(path for path in (folder / split).iterdir() if path.is_file())
    keys = {"dataset_path": str(folder), "dataset_kwargs": {"load_from_disk": True}, "test_split": split}
    return LocalData(keys, _hash(files, folder))


def _from_json(benchmark: Benchmark, folder: Path, cache: Path) -> list[Path]:
    named = [folder / f"{stem}.{end}" for stem in (benchmark.split, "data") for end in ("jsonl", "json")]
    source = next((path for path in named if path.is_file()), None)
    if source is None:
        raise UserError(
            f"{folder}: no data of {benchmark.title}; needs {benchmark.split}*.parquet (or data/{benchmark.split}*"
            f".parquet), a folder of DatasetDict.save_to_disk, or {benchmark.split}.jsonl with its pictures"
        )
    rows = read_json_rows(source)
    key = hashlib.sha256(f"{folder} {benchmark.name}".encode() + source.read_bytes())
    for row in rows:
        for picture in row["image"] if isinstance(row["image"], list) else [row["image"]]:
            key.update(picture)
    made = cache / "benchmarks" / f"{benchmark.name}-{key.hexdigest()[:16]}" / f"{benchmark.split}.parquet"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_table(made, rows)
        except UserError as error:
            raise UserError(f"{source}: cannot be made into {error}") from error
    return [made]


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file}: not a readable parquet file ({error})") from error


def _check_columns(benchmark: Benchmark, folder: Path, there: set[str]) -> None:
    missing = [name for name in benchmark.columns if name not in there]
    if missing:
        raise UserError(
            f"{folder}: not {benchmark.title} as lmms-eval reads it: without {', '.join(missing)}; "
            f"it has {', '.join(sorted(there))}"
        )


def _hash(files: list[Path], folder: Path) -> str:
    """Some of these datasets are tens of gigabytes: sizes, beginnings and ends tell them apart."""
    found = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        name = path.relative_to(folder) if path.is_relative_to(folder) else path.name
        found.update(f"{name} {size} ".encode())
        with path.open("rb") as file:
            found.update(file.read(_MEBIBYTE))
            file.seek(max(0, size - _MEBIBYTE))
            found.update(file.read(_MEBIBYTE))
    return found.hexdigest()
