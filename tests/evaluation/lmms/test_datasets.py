import json

import pyarrow.parquet as pq
import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS
from fedcmp.evaluation.lmms.datasets import find_dataset
from fedcmp.evaluation.lmms.tables import write_table

from .real_formats import ROW, picture, rows


@pytest.mark.parametrize("name", list(ROW))
def test_every_benchmark_is_found_by_its_folder(datasets, tmp_path, name):
    found = find_dataset(BENCHMARKS[name], datasets, tmp_path)
    assert found.keys["dataset_path"] == "parquet"
    (files,) = found.keys["dataset_kwargs"]["data_files"].values()
    assert len(files) == 1
    assert found.keys["test_split"] == BENCHMARKS[name].split


def test_a_hub_snapshot_is_taken_as_it_lies_and_other_splits_are_left_out(tmp_path):
    place = tmp_path / "datasets" / "MMBench"
    for folder, split in (("en", "dev"), ("en", "test"), ("cn", "dev")):
        (place / folder).mkdir(parents=True, exist_ok=True)
        write_table(place / folder / f"{split}-00000-of-00001.parquet", rows("mmbench"))
    found = find_dataset(BENCHMARKS["mmbench"], tmp_path / "datasets", tmp_path)
    assert found.keys["dataset_kwargs"]["data_files"] == {"dev": [str(place / "en" / "dev-00000-of-00001.parquet")]}


def test_a_saved_dataset_dict_with_one_split_of_another_name(tmp_path):
    place = tmp_path / "datasets" / "mme"
    (place / "validation").mkdir(parents=True)
    (place / "dataset_dict.json").write_text('{"splits": ["validation"]}')
    columns = {name: {} for name in BENCHMARKS["mme"].columns}
    (place / "validation" / "dataset_info.json").write_text(json.dumps({"features": columns}))
    found = find_dataset(BENCHMARKS["mme"], tmp_path / "datasets", tmp_path)
    assert found.keys == {
        "dataset_path": str(place),
        "dataset_kwargs": {"load_from_disk": True},
        "test_split": "validation",
    }


def test_json_with_pictures_becomes_parquet_once(tmp_path):
    place = tmp_path / "datasets" / "pope"
    place.mkdir(parents=True)
    (place / "0.png").write_bytes(picture(0))
    (place / "test.jsonl").write_text(json.dumps(rows("pope")[0] | {"image": "0.png"}))
    first = find_dataset(BENCHMARKS["pope"], tmp_path / "datasets", tmp_path / "cache")
    (file,) = first.keys["dataset_kwargs"]["data_files"]["test"]
    assert pq.read_table(file).column("image")[0].as_py()["bytes"] == picture(0)
    assert find_dataset(BENCHMARKS["pope"], tmp_path / "datasets", tmp_path / "cache") == first
    (place / "0.png").write_bytes(picture(1))
    changed = find_dataset(BENCHMARKS["pope"], tmp_path / "datasets", tmp_path / "cache")
    assert changed.hash != first.hash


def test_json_records_with_more_options_than_the_first_keep_them(tmp_path):
    """MMBench: the first question may have two options and the next four."""
    place = tmp_path / "datasets" / "mmbench"
    place.mkdir(parents=True)
    (place / "0.png").write_bytes(picture(0))
    few, more = (row | {"image": "0.png"} for row in rows("mmbench")[:2])
    del few["C"], few["D"]
    records = [few, more | {"C": "green", "D": "grey"}]
    (place / "dev.jsonl").write_text("\n".join(map(json.dumps, records)))
    found = find_dataset(BENCHMARKS["mmbench"], tmp_path / "datasets", tmp_path / "cache")
    (file,) = found.keys["dataset_kwargs"]["data_files"]["dev"]
    assert pq.read_table(file).column("C").to_pylist() == [None, "green"]
    (place / "dev.jsonl").write_text("\n".join(map(json.dumps, [few, more | {"index": "one"}])))
    with pytest.raises(UserError, match=r"dev.jsonl: cannot be made into dev.parquet: index: values of several kinds"):
        find_dataset(BENCHMARKS["mmbench"], tmp_path / "datasets", tmp_path / "cache")


def test_what_is_not_there_and_what_is_wrong(tmp_path):
    datasets = tmp_path / "datasets"
    with pytest.raises(UserError, match="no such folder"):
        find_dataset(BENCHMARKS["mme"], datasets, tmp_path)
    (datasets / "MME" / "data").mkdir(parents=True)
    assert find_dataset(BENCHMARKS["pope"], datasets, tmp_path) is None
    assert find_dataset(BENCHMARKS["mme"], datasets, tmp_path) is None  # nothing in it
    (datasets / "MME" / "README.md").touch()
    with pytest.raises(UserError, match=r"MME: no data of MME; needs test\*.parquet"):
        find_dataset(BENCHMARKS["mme"], datasets, tmp_path)
    write_table(datasets / "MME" / "test.parquet", rows("seed"))
    with pytest.raises(UserError, match="not MME as lmms-eval reads it: without category"):
        find_dataset(BENCHMARKS["mme"], datasets, tmp_path)
    (datasets / "mme").mkdir(exist_ok=True)
    if len(list(datasets.iterdir())) == 2:  # not where names' case does not count
        with pytest.raises(UserError, match="MME, mme are all folders of MME"):
            find_dataset(BENCHMARKS["mme"], datasets, tmp_path)
