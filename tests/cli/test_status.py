"""`fedcmp status`: a line per run and a table of its sites; JSON; again and again while it works."""

import json
import shutil
import sys

import pytest

from fedcmp.cli import status as verb
from fedcmp.cli.main import main
from fedcmp.errors import UserError
from fedcmp.runs.live import LiveFile
from tests.report.fakes import write_run
from tests.runs.test_status import START, stopped


@pytest.fixture
def fedcmp(monkeypatch, capsys):
    """The command in this process: (arguments) -> exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedcmp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A server's run folder in its third round, three minutes after it was opened."""
    folder = stopped(tmp_path / "lab", closed=2, missing=[(2, 1)])
    monkeypatch.setattr("fedcmp.runs.live.time.time", lambda: START + 120)
    live = LiveFile(folder, "fedavg", 10, [f"client-{n}" for n in range(3)])
    live.open(3, seconds=600)
    live.site("client-0", "training", step=12, steps=80)
    live.site("client-1", "late", detail="link lost \x1b[31m")
    monkeypatch.setattr(verb.time, "time", lambda: START + 300)
    monkeypatch.setattr("fedcmp.runs.status._changed", lambda _path: START + 299)
    return folder


def test_a_run_at_work_is_a_line_and_a_table_with_those_first_that_want_attention(lab, fedcmp):
    code, out, err = fedcmp("status", lab)
    assert (code, err) == (0, "")
    first, heads, *rows = out.splitlines()
    assert first.startswith(f"{lab}: fedavg: round 3 of 10, open for 3 min, closes in 7 min, held-out loss ")
    assert " (round 2), 1.6 MB sent, about 5 min left" in first
    assert heads.split() == ["Site", "State", "since", "step", "rounds", "missed", "loss", "MB"]
    assert [row.split()[:2] for row in rows] == [
        ["client-1", "late"],
        ["client-0", "training"],
        ["client-2", "waiting"],
    ]
    assert rows[0].split()[2:6] == ["3", "min", "1", "1"]
    assert rows[0].rstrip().endswith("link lost \\x1b[31m")
    assert "12/80" in rows[1]


def test_silence_is_said_instead_of_what_is_left(lab, fedcmp, monkeypatch):
    monkeypatch.setattr("fedcmp.runs.status._changed", lambda _path: START - 7000)
    _, out, _ = fedcmp("status", lab)
    assert "no news for 2.0 h" in out
    assert "left" not in out.splitlines()[0]


def test_a_finished_run_is_one_line_that_names_its_best_round(tmp_path, fedcmp):
    def change(line):
        return line | {"caption_loss": 0.1 * line["round"]} if line.get("model") == "global" else line

    write_run(tmp_path / "a", "fedavg", rounds=3, clients=2, change=change, samples=False)
    code, out, _ = fedcmp("status", tmp_path / "a")
    assert code == 0
    (line,) = out.splitlines()
    assert "fedavg: finished, 3 rounds, held-out loss 0.300 (round 3), best 0.100 (round 1), 1.6 MB sent" in line


def test_json_has_all_of_it(lab, fedcmp):
    code, out, _ = fedcmp("status", lab, "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert (found["folder"], found["method"], found["open"], found["rounds"]) == (str(lab), "fedavg", 3, 10)
    assert (found["deadline"], found["left"]) == (START + 720, pytest.approx(300))
    assert found["best"].keys() == {"round", "loss"}
    sites = {site["name"]: site for site in found["sites"]}
    assert sites["client-0"] == sites["client-0"] | {
        "state": "training",
        "step": 12,
        "steps": 80,
        "rounds": 2,
        "missed": 0,
    }
    assert sites["client-1"]["detail"] == "link lost \x1b[31m"


def test_many_sites_are_cut_and_those_in_trouble_are_not(tmp_path, fedcmp):
    folder = stopped(tmp_path / "many", closed=1, clients=60)
    LiveFile(folder, "fedavg", 10, [f"client-{n}" for n in range(60)]).site("client-59", "out")
    _, out, _ = fedcmp("status", folder)
    lines = out.splitlines()
    assert lines[2].split()[:2] == ["client-59", "out"]
    assert (len(lines), lines[-1]) == (2 + 40 + 1, "and 20 more sites")


def test_watching_ends_with_the_run_and_json_lines_can_be_followed(tmp_path, fedcmp, monkeypatch):
    folder = stopped(tmp_path / "a", closed=1)
    whole = write_run(tmp_path / "whole", "fedavg", rounds=10, clients=3, samples=False)
    looks = []

    def advance(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            shutil.copy(whole / "metrics.jsonl", folder / "metrics.jsonl")

    monkeypatch.setattr(verb.time, "sleep", advance)
    code, out, err = fedcmp("status", folder, "--watch", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)[0]["closed"] for line in out.splitlines()] == [1, 1, 10]
    code, _, err = fedcmp("status", folder, "--watch")
    assert code == 2
    assert "--watch: needs a terminal" in err


def test_a_terminal_is_kept_up_to_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    folder = write_run(tmp_path / "a", "fedavg", rounds=2, clients=2, samples=False)
    verb.status_command(folder, watch=True, as_json=False)
    assert "finished, 2 rounds" in capsys.readouterr().out


def test_without_a_folder_it_is_the_newest_run_in_runs(tmp_path, fedcmp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = fedcmp("status")
    assert code == 2
    assert "no run in runs/ here" in err
    stopped(tmp_path / "runs" / "one", closed=1)
    for method in ("fedavg", "moon"):
        stopped(tmp_path / "runs" / "two" / method, method, closed=1)
    _, out, _ = fedcmp("status")
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("runs")] == [
        "runs/two/fedavg",
        "runs/two/moon",
    ]


def test_a_folder_that_is_none_is_one_line():
    with pytest.raises(UserError, match="no such folder; name a run's folder or a site's"):
        verb.status_command(verb.Path("typo"), watch=False, as_json=False)
