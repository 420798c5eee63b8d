"""A study that asks the paper's benchmarks of its runs, lmms-eval's python replaced by a stand-in."""

import json
import shutil
from pathlib import Path

import pytest

from fedcmp.errors import UserError
from fedcmp.report.study import write_study_report
from fedcmp.study.plan import planned_run
from fedcmp.study.recipe import load_study
from fedcmp.study.runner import Study

from ..evaluation.lmms.fake_lmms import FakeLmms
from ..evaluation.lmms.real_formats import write_datasets

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def asking(content, tmp_path):
    """A study of two methods, one scenario, one seed, nothing tuned, that asks POPE."""
    content["study"] |= {"suites": [], "benchmarks": "llava7"}
    content["benchmarks"] = {"datasets": str(write_datasets(tmp_path / "data", ("pope",))), "only": ["pope"]}
    content["scenario"] = {"image": content["scenario"]["image"] | {"seeds": [1], "ablation_seeds": []}}
    content["method"] = {
        name: {"title": title, "learning_rates": [0.003]}
        for name, title in (("fedavg", "FedAvg"), ("fedcmp", "Fed-CMP"))
    }
    return content


@pytest.mark.slow
def test_runs_are_kept_asked_and_put_into_tables_in_the_papers_form(asking, write, world_cache, tmp_path, monkeypatch):
    fake = FakeLmms(tmp_path / "fake")
    monkeypatch.setenv("FEDCMP_LMMS_PYTHON", str(fake.python))
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))
    said: list[str] = []
    Study(load_study(write(asking)), said.append).run()
    folder = tmp_path / "results"
    write_study_report(folder)
    record = json.loads((folder / "benchmarks" / "image" / "fedavg" / "seed-1" / "pope.json").read_text())
    assert record["score"] == 50
    assert (folder / "models" / "image" / "fedcmp" / "seed-1" / "checkpoints").is_dir()
    table = (folder / "report" / "tables.md").read_text().split("the paper's table 1\n")[-1].split("\n## ")[0]
    assert "| FedAvg | – | – | – | – | 50.0 | – | – |" in table
    assert "| Fed-CMP, the paper's figures | 32.5 |" in table
    assert "the paper's benchmarks, by lmms-eval" in (folder / "report" / "tables.tex").read_text()
    assert 'id="benchmarks"' in (folder / "report" / "index.html").read_text()

    shutil.rmtree(folder / "models" / "image" / "fedavg")  # without its projector a run is run again
    said.clear()
    Study(load_study(write(asking)), said.append).run()
    assert any(line.startswith("[1/1") for line in said)
    for method in ("fedavg", "fedcmp"):  # the same projectors, to the bit
        assert f"image, {method}, seed 1: pope: 50.0 (kept)" in said
    assert len(fake.calls()) == 2


def test_asking_benchmarks_changes_no_run(asking, content, write):
    asks = load_study(write(asking))
    plain = {**asking, "study": {**asking["study"]}}
    del plain["benchmarks"], plain["study"]["benchmarks"]
    silent = load_study(write(plain))
    settings = {"learning_rate": 0.003}
    hashes = [planned_run(study, "image", "fedavg", 1, settings).hash for study in (asks, silent)]
    assert hashes[0] == hashes[1]


def test_lmms_eval_is_looked_for_before_anything_is_trained(asking, write, monkeypatch, tmp_path):
    monkeypatch.delenv("FEDCMP_LMMS_PYTHON", raising=False)
    with pytest.raises(UserError, match="--print-environment"):
        Study(load_study(write(asking)), lambda _line: None).run()
    assert not (tmp_path / "results" / "runs").exists()


def test_data_and_judge_are_looked_for_before_anything_is_trained(asking, write, monkeypatch, tmp_path):
    monkeypatch.setenv("FEDCMP_LMMS_PYTHON", str(FakeLmms(tmp_path / "fake").python))
    asking["benchmarks"]["only"] = ["pope", "mme"]
    with pytest.raises(UserError, match=r"mme: .* holds no folder for it"):
        Study(load_study(write(asking)), lambda _line: None).run()
    asking["benchmarks"]["only"] = ["mm-vet"]
    with pytest.raises(UserError, match="mm-vet: its answers need a judge"):
        Study(load_study(write(asking)), lambda _line: None).run()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"only": ["popes"]}, r"study.toml: benchmarks.only: no benchmark is named 'popes'; did you mean pope"),
        ({"judge_url": "http://localhost/v1"}, r"study.toml: benchmarks: a judge needs both judge_url and judge_model"),
    ],
)
def test_a_mistake_names_the_recipes_key(asking, write, change, said):
    asking["benchmarks"] |= change
    with pytest.raises(UserError, match=said):
        load_study(write(asking))


def test_the_papers_grid_is_nine_methods_by_four_scenarios_and_its_time_is_not_guessed():
    said = Study(load_study(RECIPES / "paper.toml"), lambda _line: None).estimate()
    assert said.startswith("0 short runs of tuning, 36 runs (image 9, cross 9, joint 9, text 9): how long")


def test_half_of_it_is_refused(asking, write):
    del asking["benchmarks"]
    with pytest.raises(UserError, match=r"the section goes with study\.benchmarks"):
        load_study(write(asking))
