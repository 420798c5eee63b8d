import json
import math
import shutil

import pytest

from fedcmp.errors import UserError
from fedcmp.report.study import load_study
from fedcmp.report.toy import TOY_WORLD

from .fakes import add_run, run_content, write_json, write_study


@pytest.fixture
def small(tmp_path):
    return write_study(tmp_path / "small", methods=("fedavg", "shared-basis"), scenarios=("image",), seeds=(1, 2))


def test_everything_of_a_study_is_read(study_folder):
    study = load_study(study_folder)
    assert study.name == "study"
    assert list(study.scenarios) == ["text", "image", "iid", "image-20"]
    assert study.scenarios["image"].seeds == [1, 2, 3, 4, 5]
    assert len(study.runs) == 4 * 9 * 5 + 5 * 5
    assert study.blind.noise["pope-world"] == 1.4
    assert [holding.seed for holding in study.holdings["iid"]] == [1, 2, 3, 4, 5]
    assert {tuning.method for tuning in study.tuning} == {name for name, m in study.methods.items() if not m.arms}


def test_a_study_without_anything_but_its_plan_is_one(small):
    for name in ("runs", "references", "scenarios", "tuning"):
        shutil.rmtree(small / name)
    study = load_study(small)
    assert (study.runs, study.blind, study.tuning) == ((), None, ())


def test_what_the_plan_does_not_name_is_kept_under_its_own_name(small):
    add_run(small, {**run_content("fedavg", "image", 3), "method": "own-rule", "federated": True})
    add_run(small, {**run_content("fedavg", "image", 3), "scenario": "odd"})
    study = load_study(small)
    assert study.methods["own-rule"].title == "own-rule"
    assert study.scenarios["odd"].title == "odd"


def test_files_that_are_still_being_written_are_passed_over(small):
    (small / "runs" / "image" / "fedavg" / ".seed-3.json.part").write_text("{")
    (small / "runs" / "image" / "fedavg" / "notes.json").write_text("{")
    assert len(load_study(small).runs) == 4


def test_no_study_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_study(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"holds study\.json"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "not JSON"), ("[1]", "no JSON object"), ('{"format": 2}', "format 2, but this version reads 1")],
)
def test_a_broken_file_is_named(small, content, told):
    path = small / "runs" / "image" / "fedavg" / "seed-1.json"
    path.write_text(content)
    with pytest.raises(UserError, match=told) as error:
        load_study(small)
    assert str(error.value).startswith(str(path))


def test_a_run_in_the_wrong_place_is_named(small):
    write_json(small / "runs" / "image" / "fedavg" / "seed-4.json", run_content("shared-basis", "image", 4))
    with pytest.raises(UserError, match="method = 'shared-basis', but its place says 'fedavg'"):
        load_study(small)


def test_values_of_the_wrong_type_count_as_missing(small):
    content = run_content("fedavg", "image", 1)
    content["final"] = {
        "caption_loss": "low",
        "worst_family_loss": 0.7,
        "suites": {"pope-world": "?", "mme-world": {"score": 900}},
    }
    content["rounds_evaluated"] = [{"round": 1, "caption_loss": 0.9, "suites": None}, 5]
    add_run(small, {**content, "settings": None, "captions": "many"})
    run = next(run for run in load_study(small).runs if (run.method, run.seed) == ("fedavg", 1))
    assert run.values == {"mme-world": 900.0, "worst_family_loss": 0.7}
    assert (run.captions, run.settings) == (None, {})
    assert run.points[-1].values == {"caption_loss": 0.9}


def test_a_diverged_loss_is_kept(small):
    path = small / "runs" / "image" / "fedavg" / "seed-1.json"
    content = json.loads(path.read_text())
    content["final"]["caption_loss"] = math.nan
    path.write_text(json.dumps(content))
    run = next(run for run in load_study(small).runs if (run.method, run.seed) == ("fedavg", 1))
    assert math.isnan(run.values["caption_loss"])


WORLD = {"data": {"format": "world"}, "model": {"vision": "world", "language": "world"}}
OWN = {"data": {"format": "llava"}, "model": {"vision": "openai/clip", "language": "a/llm"}}


@pytest.mark.parametrize(
    ("sources", "suites", "toy"),
    [
        ([WORLD], True, TOY_WORLD),
        ([WORLD], False, TOY_WORLD),
        ([OWN], False, ""),
        (None, True, TOY_WORLD),  # a study of version 0.2: only the embedded world has these suites
        (None, False, ""),
    ],
)
def test_a_study_says_that_it_is_of_the_toy_world_only_where_it_is(tmp_path, sources, suites, toy):
    def change(content):
        return content if suites else {**content, "final": {**content["final"], "suites": {}}}

    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image",), seeds=(1,), change=change, extras=False)
    (folder / "references" / "blind.json").unlink()
    if sources is not None:
        plan = json.loads((folder / "study.json").read_text())
        write_json(folder / "study.json", {**plan, "sources": sources})
    assert load_study(folder).toy == toy


def test_suites_are_read_by_their_old_names_too(tmp_path):
    def change(content):
        content["final"]["suites"] = {"pope": 50.0, "mmbench-world": 60.0}
        return content

    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image",), seeds=(1,), change=change, extras=False)
    assert load_study(folder).runs[0].final.suites == {"pope-world": 50.0, "mmbench-world": 60.0}
