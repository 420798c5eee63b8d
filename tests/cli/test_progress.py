import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedcmp.cli import progress, steps
from fedcmp.cli.progress import Display, print_table
from fedcmp.config import parse_recipe
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.runs.records import Evaluation


def recipe(folder, *methods):
    settings = {"run": {"methods": list(methods), "folder": str(folder)}, "data": {"num_pairs": 100}}
    return parse_recipe(settings | {"federation": {"rounds": 4}}, "test.toml")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets; no terminal, whatever the environment says."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    clock = SimpleNamespace(now=1000.0)
    for module in (progress, steps):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_preparing_is_told_now_and_then_and_at_its_end(clock, capsys):
    with Display(None) as display:
        for done in range(1, 31):
            display.preparing("reading pairs", 1000 * done, 30_000)
            clock.now += 1
    lines = capsys.readouterr().err.splitlines()
    told = [
        "1,000 of 30,000",
        "11,000 of 30,000  1,000/s  about 19 s left",
        "21,000 of 30,000  1,000/s  about 9 s left",
    ]
    assert lines == [f"reading pairs: {part}" for part in (*told, "30,000 of 30,000  1,000/s")]


def test_time_left_counts_from_the_methods_own_start(clock, capsys, tmp_path):
    """Neither preparing nor the rounds before a resume are in the estimate; what has ended tells none."""
    with Display(recipe(tmp_path, "fedavg")) as display:
        display.preparing("features", 10, 10)
        clock.now += 5000
        display.client_done("fedavg", 3, 0, 2, 1.5)  # resumed: five of eight units
        clock.now += 20
        display.client_done("fedavg", 3, 1, 2, 1.25)
        clock.now += 40
        display.client_done("fedavg", 4, 0, 2, 1.0)
        display.client_done("fedavg", 4, 1, 2, 0.75)
    assert capsys.readouterr().err.splitlines() == [
        "features: 10 of 10",
        "fedavg: round 3/4  client 1/2  loss 1.500",
        "fedavg: round 3/4  client 2/2  loss 1.250  about 40 s left",
        "fedavg: round 4/4  client 1/2  loss 1.000  about 30 s left",
        "fedavg: round 4/4  client 2/2  loss 0.750",
    ]


def test_methods_side_by_side_tell_the_time_left_of_all(clock, capsys, tmp_path):
    """One worker, one client a method and round, ten seconds each: a method's own pace says nothing of its end."""
    with Display(recipe(tmp_path, "fedavg", "shared-basis")) as display:
        for turn, (method, round_number) in enumerate(
            [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("a", 4), ("b", 3), ("b", 4)]
        ):
            clock.now = 1000.0 + 10 * turn
            display.client_done({"a": "fedavg", "b": "shared-basis"}[method], round_number, 0, 1, 1.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("loss 1.000")[2].strip() for line in lines] == [
        "",
        "",
        "all methods: about 50 s left",
        "all methods: about 40 s left",
        "all methods: about 30 s left",
        "all methods: about 20 s left",
        "all methods: about 10 s left",
        "",
    ]


def test_a_method_that_had_ended_before_a_resume_is_not_waited_for(clock, capsys, tmp_path):
    (tmp_path / "run" / "shared-basis").mkdir(parents=True)
    (tmp_path / "run" / "shared-basis" / "metrics.jsonl").write_text('{"kind": "finished"}\n')
    with Display(recipe(tmp_path, "fedavg", "shared-basis")) as display:
        display.client_done("fedavg", 2, 0, 1, 1.0)
        clock.now += 10
        display.client_done("fedavg", 3, 0, 1, 1.0)
    assert capsys.readouterr().err.splitlines()[-1].endswith("all methods: about 10 s left")


def test_the_pooled_learner_is_no_client(clock, capsys, tmp_path):
    with Display(recipe(tmp_path, "centralized")) as display:
        display.client_done("centralized", 1, -1, 1, 2.0)
        display.round_done("centralized", 1, 4, Evaluation.from_line({"caption_loss": 1.0}))
        display.round_done("centralized", 2, 4, None)
    assert capsys.readouterr().err.splitlines() == ["centralized: round 1/4  pooled  loss 2.000"]


def test_bars_in_a_terminal_show_the_methods_own_time_left(monkeypatch, tmp_path):
    """Clients of a minute each, after a resume: over the rounds seen."""
    out, clock = io.StringIO(), SimpleNamespace(now=0.0)
    for module in (progress, steps):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    class Terminal(Console):
        def __init__(self, **named):
            super().__init__(file=out, force_terminal=True, width=160, get_time=lambda: clock.now)

    monkeypatch.setattr(steps, "Console", Terminal)
    display = Display(recipe(tmp_path, "fedavg"))
    for round_number, client in ((3, 0), (3, 1), (4, 0)):
        clock.now += 60
        display.client_done("fedavg", round_number, client, 2, 1.0)
    (task,) = display._progress.tasks
    assert task.fields["left"] == "about 60 s left"
    display.preparing("[b]name[/b]", 1, 2)
    with display:
        pass
    assert "[b]name[/b]" in out.getvalue()


def test_bars_of_several_methods_have_one_for_all(monkeypatch, tmp_path):
    clock = SimpleNamespace(now=0.0)
    for module in (progress, steps):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    display = Display(recipe(tmp_path, "fedavg", "shared-basis"))
    for method, round_number in (("fedavg", 1), ("shared-basis", 1), ("shared-basis", 2)):
        clock.now += 10
        display.client_done(method, round_number, 0, 1, 1.0)
    told = {task.description: (task.percentage, task.fields["left"]) for task in display._progress.tasks}
    assert told == {"all methods": (37.5, "about 50 s left"), "fedavg": (25, ""), "shared-basis": (50, "")}


@pytest.fixture
def table():
    names = ["fedavg", "[red]fedcmp[/red]", "[/]", "back\\", ":smile:", "[bold", "a" * 200, "Größe 写真"]
    return Table(
        columns=(Column("method", numeric=False), Column("loss [nat]", unit="±")),
        rows=tuple(
            Row((Cell(name, bold=bool(i % 2)), Cell(f"{i}.25", detail=f"± {i}"))) for i, name in enumerate(names)
        ),
        caption="Summary [of] all",
        notes=("A note with [brackets] and :smile:.",),
    )


def test_a_table_is_printed_whole_whatever_its_names_hold(table, capsys):
    print_table(table)
    out = capsys.readouterr().out
    lines = out.splitlines()
    for number, row in enumerate(table.rows):
        if len(row.cells[0].text) < 100:
            (line,) = [line for line in lines if f" {row.cells[0].text} " in line]
            assert f" {number}.25 ± {number} " in line
    assert out.count("a" * 20) >= 1
    assert sum(line.count("a" * 10) for line in lines) >= 18  # folded, not cut
    for text in ("Summary [of] all", "loss [nat] (±)", "A note with [brackets] and :smile:."):
        assert text in out
    assert "…" not in out
