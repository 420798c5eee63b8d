import json
import shutil
import subprocess
import sys

import pytest

from fedcmp.errors import UserError
from fedcmp.report.study import write_study_report
from fedcmp.report.study.files import PNG_NAMES
from fedcmp.report.study.writing import render_study_latex, render_study_markdown

from .fakes import write_study


@pytest.fixture
def quick_pictures(monkeypatch):
    """PNG files without the drawing, which test_figures.py looks at."""
    drawn = dict.fromkeys(PNG_NAMES, b"drawn")
    monkeypatch.setattr("fedcmp.report.study.writing.study_pngs", lambda results: dict(drawn))
    return drawn


@pytest.fixture
def small(tmp_path):
    return write_study(tmp_path / "small", methods=("fedavg", "shared-basis"), scenarios=("image",), seeds=(1, 2))


def test_all_files_lie_beside_the_runs_and_are_the_same_twice(small, quick_pictures):
    files = write_study_report(small)
    names = ["index.html", "tables.md", "tables.tex", "numbers.json", *PNG_NAMES]
    assert files == [small / "report" / name for name in names]
    assert sorted(path.name for path in (small / "report").iterdir()) == sorted(names)
    first = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in write_study_report(small)] == first
    assert json.loads((small / "report" / "numbers.json").read_text())["study"] == "study"


def test_a_figure_of_an_earlier_report_does_not_stay(small, quick_pictures, tmp_path):
    out = tmp_path / "elsewhere"
    write_study_report(small, out)
    assert (out / "maps.png").exists()
    del quick_pictures["maps.png"]
    shutil.rmtree(small / "scenarios")
    write_study_report(small, out)
    assert not (out / "maps.png").exists()
    assert (out / "trajectories.png").exists()


def test_a_place_that_cannot_be_written_is_named(small, quick_pictures, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken: the report cannot be written .*; give another"):
        write_study_report(small, tmp_path / "taken")


def test_markdown_holds_the_pages_tables(results):
    text = render_study_markdown(results, title="study")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Caption loss of every method in every scenario",
        "Who wins in each scenario",
        "Image clusters — in the form of the paper's table 1",
        "Text clusters — in the form of the paper's tables 2, 7 and 8",
        "Fed-CMP against every other method, seed by seed",
        "Distance from FedAvg to centralized closed",
        "Oscillation, Image clusters",
        "Oscillation, Text clusters",
        "Oscillation, IID",
        "Oscillation, Image clusters, 20 clients",
        "Parts of Fed-CMP: canonical space (CSC), reliability weights (RWF), momentum (OPM) — in the form of the "
        "paper's table 3, Image clusters",
        "Reliability weights: magnitude, quality, gamma — in the form of the paper's table 4, Image clusters",
        "IID",
        "Image clusters, 20 clients",
        "How unlike the clients are",
        "Settings chosen by tuning",
        "Citation",
    ]
    assert "\n*Toy world: drawn scenes of 48 x 48 pixels, frozen models of 4 MB.*\n" in text
    assert "**Fed-CMP wins 4 of 4 scenarios**" in text
    assert "<ins>0.417 ± 0.00" in text
    assert "arXiv 2603.26786" in text


def test_latex_holds_the_same_tables(results):
    text = render_study_latex(results)
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 16
    captions = [line for line in text.splitlines() if line.startswith(r"\caption")]
    assert len(captions) == 16
    assert all("(toy world: drawn scenes of 48 x 48 pixels, frozen models of 4 MB)}" in line for line in captions)
    assert text.splitlines()[0].startswith("% Needs:")
    assert r"\textbf{Fed-CMP}" in text
    labels = [line for line in text.splitlines() if line.startswith(r"\label")]
    assert len(labels) == len(set(labels))


def test_the_room_needs_none_of_the_machinery():
    code = (
        "import sys, fedcmp.report.study; "
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('fedcmp.')}; "
        "heavy = {'aggregation', 'client', 'config', 'data', 'federation', 'model', 'preparation', 'simulation'}; "
        "assert not rooms & heavy, rooms; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
