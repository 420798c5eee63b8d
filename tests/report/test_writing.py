import shutil
import subprocess
import sys

import pytest

from fedcmp.errors import UserError
from fedcmp.report import load_runs, render_markdown, write_report

from .fakes import write_run


def test_the_report_lies_beside_the_runs_and_is_the_same_twice(tmp_path, demo):
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    index = write_report(folder)
    assert index == folder / "report" / "index.html"
    names = sorted(path.name for path in index.parent.iterdir())
    assert names == [
        "caption_loss.png",
        "client_weights.png",
        "index.html",
        "question_accuracy.png",
        "tables.md",
        "worst_group_loss.png",
    ]
    first = {name: (index.parent / name).read_bytes() for name in names}
    write_report(folder)
    assert first == {name: (index.parent / name).read_bytes() for name in names}


@pytest.fixture
def quick_pictures(monkeypatch):
    """PNG files without the drawing, which test_png.py looks at."""
    drawn = {"caption_loss.png": b"one", "question_accuracy.png": b"two"}
    monkeypatch.setattr("fedcmp.report.writing.png_files", lambda comparison: dict(drawn))
    return drawn


def test_a_single_run_is_titled_by_its_name(tmp_path, quick_pictures):
    folder = write_run(tmp_path / "night-run", "fedavg", rounds=2)
    index = write_report(folder, tmp_path / "elsewhere" / "report")
    assert index == tmp_path / "elsewhere" / "report" / "index.html"
    assert "<h1>night-run</h1>" in index.read_text(encoding="utf-8")


def test_a_picture_of_an_earlier_report_does_not_stay(tmp_path, quick_pictures):
    folder = write_run(tmp_path / "run", "fedavg", rounds=2, samples=False)
    write_report(folder)
    assert (folder / "report" / "question_accuracy.png").exists()
    del quick_pictures["question_accuracy.png"]
    write_report(folder)
    assert not (folder / "report" / "question_accuracy.png").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path, quick_pictures):
    folder = write_run(tmp_path / "run", "fedavg", rounds=1, samples=False)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken: the report cannot be written .*; give another"):
        write_report(folder, tmp_path / "taken")


def test_a_failed_write_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch, quick_pictures):
    folder = write_run(tmp_path / "run", "fedavg", rounds=1, samples=False)
    index = write_report(folder)
    before = sorted(path.name for path in index.parent.iterdir()), index.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        write_report(folder)
    assert (sorted(path.name for path in index.parent.iterdir()), index.read_bytes()) == before


def test_markdown_holds_the_pages_tables(demo):
    text = render_markdown(load_runs(demo), title="demo")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# demo",
        "## Methods",
        "## Accuracy by kind of question",
        "## Caption loss by group",
        "## Who holds what (image–caption pairs)",
        "## What differs between the recipes",
        "## Citation",
    ]
    assert "\n*Toy world: drawn scenes of 48 x 48 pixels, frozen models of 4 MB.*\n" in text
    assert "**shared-basis** wins: caption loss **" in text
    assert "↓ lower is better, ↑ higher is better." in text
    assert "arXiv 2603.26786" in text


def test_the_room_needs_none_of_the_machinery():
    code = (
        "import sys, fedcmp.report; "
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('fedcmp.')}; "
        "heavy = {'aggregation', 'client', 'config', 'data', 'federation', 'model', 'preparation', 'simulation'}; "
        "assert not rooms & heavy, rooms; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
