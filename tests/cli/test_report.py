"""`fedcmp report`: once, for a study, and again and again while a run works."""

import json

import pytest

from fedcmp.cli import report as verb
from fedcmp.errors import UserError
from tests.report.fakes import run_lines, write_lines, write_run
from tests.report.study.fakes import write_study


def test_a_studys_folder_gets_the_studys_report(tmp_path, capsys):
    folder = write_study(tmp_path, methods=("fedavg", "shared-basis"), scenarios=("image",), seeds=(1, 2), extras=False)
    verb.report_command(folder, None, watch=False)
    assert f"report: {folder / 'report' / 'index.html'}" in capsys.readouterr().out
    assert "Toy world" in (folder / "report" / "tables.md").read_text()


def test_a_study_is_not_watched(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(UserError, match="--watch follows a run"):
        verb.report_command(tmp_path, None, watch=True)


def test_watching_writes_again_until_the_run_ends(tmp_path, monkeypatch, capsys):
    """First nothing, then two rounds, then the same two, then all: waited, written, left alone, written and ended."""
    lines = run_lines("fedavg", seed=0, rounds=3, clients=2)
    half = [line for line in lines if (line.get("round") or 0) <= 2 and line["kind"] != "finished"]
    states = iter([half, half, lines])
    run = tmp_path / "demo"
    pages = []

    def advance(_seconds):
        page = run / "report" / "index.html"
        pages.append(page.read_text() if page.is_file() else None)
        write_lines(run / "fedavg", next(states))

    monkeypatch.setattr(verb.time, "sleep", advance)
    (tmp_path / ".demo.preparing").mkdir()
    page = verb.follow(run, None, every=7)
    assert pages[0] is None
    assert 'data-seconds="7"' in pages[1]
    assert pages[1] == pages[2]
    assert 'id="pause"' not in page.read_text()
    said = capsys.readouterr().err
    assert said.count("waiting for the run's first records") == 1
    assert said.count("(rounds: fedavg") == 2


def test_a_folder_that_is_not_there_is_not_waited_for(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        verb.follow(tmp_path / "runs" / "typo", None)


def test_a_run_that_ended_is_written_once(tmp_path, capsys):
    folder = write_run(tmp_path / "fedavg", "fedavg", rounds=1, samples=False)
    assert json.loads((folder / "held_out.json").read_text())["round"] == 1
    verb.report_command(folder, None, watch=True)
    assert "report: " in capsys.readouterr().out
