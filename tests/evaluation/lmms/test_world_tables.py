import pyarrow.parquet as pq
import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS
from fedcmp.evaluation.lmms.datasets import find_dataset
from fedcmp.evaluation.lmms.world_tables import write_world_benchmarks
from fedcmp.evaluation.suites.table import build_suite


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "datasets"
    items = write_world_benchmarks(folder, limit=5)
    tables = {}
    for name in items:
        found = find_dataset(BENCHMARKS[name], folder, folder)
        assert found.toy  # they are none of the real benchmark's
        keys = found.keys
        (files,) = keys["dataset_kwargs"]["data_files"].values()
        tables[name] = pq.read_table(files[0]).to_pylist()
    return folder, items, tables


def test_rows_lead_back_to_the_suites_items(written):
    _, items, tables = written
    for name, rows in tables.items():
        suite, _ = build_suite(f"{name}-world", "test")
        assert len(rows) == len(items[name])
        for row, number in zip(rows, items[name], strict=True):
            item = suite.items[number]
            asked = row["question"].removesuffix(" Please answer yes or no.")
            assert item.prompt == f"question : {asked} answer :"
            right = row[row["answer"]] if name == "mmbench" else row["answer"].lower()
            assert right == item.answer


def test_pope_asks_about_a_present_object_once_a_split(written):
    rows = written[2]["pope"]
    assert len(rows) == 3 * 2 * 5
    for split in ("random", "popular", "adversarial"):
        answers = [row["answer"] for row in rows if row["category"] == split]
        assert answers.count("yes") == answers.count("no") == 5


def test_mme_and_mmbench_pair_their_rows_as_the_real_ones_do(written):
    mme = written[2]["mme"]
    assert [row["answer"] for row in mme[:2]] == ["Yes", "No"]
    assert mme[0]["question_id"] == mme[1]["question_id"]
    mmbench = written[2]["mmbench"]
    assert mmbench[1]["index"] == mmbench[0]["index"] + 1_000_000
    assert (mmbench[0]["A"], mmbench[0]["B"]) == (mmbench[1]["B"], mmbench[1]["A"])
    assert mmbench[0]["C"] == mmbench[0]["hint"] == "nan"


def test_a_folder_that_holds_something_is_refused(written):
    with pytest.raises(UserError, match="is not empty"):
        write_world_benchmarks(written[0])
