import json

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.remarks import facts, pointers, warnings

from .fakes import write_run


def test_facts_say_what_ran(demo_comparison):
    assert facts(demo_comparison) == [
        ("Data", "embedded world, split among clients by image"),
        ("Models", "embedded encoder, mlp projector, embedded LLM"),
        ("Pairs", "19\u202f200"),
        ("Held-out pairs", "240"),
        ("Clients", "5"),
        ("Rounds", "10"),
        ("Seed", "0"),
        ("Runs", "4"),
    ]


def test_facts_of_a_users_own_files(tmp_path):
    folder = write_run(tmp_path / "run", "fedavg", rounds=1, samples=False)
    recipe = folder / "recipe.toml"
    own = recipe.read_text().replace('"world"', '"llava"').replace('"image"', '"given"')
    recipe.write_text(own.replace("clients = []", 'clients = [{name = "north"}, {name = "south"}]'))
    found = dict(facts(Comparison.of(load_runs(tmp_path))))
    assert (found["Data"], found["Clients"]) == ("LLaVA-format files", "2")


def test_facts_say_where_when_and_how_long(tmp_path):
    """Runs side by side count once; three runs of 60 s, two of them at the same time, took two minutes."""
    for place, (start, end) in enumerate(
        [("10:00:00", "10:01:00"), ("10:00:00", "10:01:00"), ("12:00:00", "12:01:00")]
    ):
        run = {"started": f"2026-11-26T{start}+00:00", "machine": "Linux, 2 cores", "parameters": 16576}

        def change(line, end=end):
            return {**line, "ended": f"2026-11-26T{end}+00:00"} if line["kind"] == "finished" else line

        folder = write_run(tmp_path / str(place), "fedavg", seed=place, rounds=1, samples=False, change=change)
        lines = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(json.dumps({"kind": "run", "method": "fedavg", **run}) + "\n" + lines)
    found = dict(facts(Comparison.of(load_runs(tmp_path))))
    assert (found["Machine"], found["Date"], found["Duration"]) == ("Linux, 2 cores", "2026-11-26", "2 min")
    assert found["Parameters"] == "16\u202f576"


@pytest.mark.parametrize("times", [("", ""), ("yesterday", "today"), ("2026-11-26T10:00:00", "2026-11-26T10:00:00")])
def test_times_that_are_none_give_no_duration(tmp_path, times):
    def change(line):
        return {**line, "ended": times[1]} if line["kind"] == "finished" else line

    folder = write_run(tmp_path / "a", "fedavg", rounds=1, samples=False, change=change)
    lines = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(
        json.dumps({"kind": "run", "method": "a", "started": times[0]}) + "\n" + lines
    )
    assert "Duration" not in dict(facts(Comparison.of(load_runs(tmp_path))))


def test_facts_of_seeds_and_of_runs_that_differ(tmp_path):
    write_run(tmp_path / "a", "fedavg", seed=0, rounds=2, samples=False)
    write_run(tmp_path / "b", "fedavg", seed=1, rounds=4, clients=3, samples=False)
    found = dict(facts(Comparison.of(load_runs(tmp_path))))
    assert (found["Seeds"], found["Rounds"], found["Clients"]) == ("0, 1", "2 to 4", "3 to 5")


def test_an_unfinished_run_is_warned_of(tmp_path):
    write_run(
        tmp_path / "shared-basis",
        "shared-basis",
        samples=False,
        change=lambda line: line if (line.get("round") or 0) <= 4 and line["kind"] != "finished" else None,
    )
    (told,) = warnings(Comparison.of(load_runs(tmp_path)))
    assert told.startswith("shared-basis has not finished: round 4 of 10.")


def test_a_diverged_run_is_warned_of(tmp_path):
    def diverge(line):
        return {**line, "caption_loss": float("inf")} if line.get("model") == "global" else line

    write_run(tmp_path / "fedadam", "fedadam", rounds=2, samples=False, change=diverge)
    assert warnings(Comparison.of(load_runs(tmp_path))) == [
        "fedadam diverged: its caption loss is not a finite number."
    ]


def test_finished_runs_bring_no_warning(demo_comparison):
    assert warnings(demo_comparison) == []


def test_pointers_lead_to_what_stands_out(demo_comparison):
    found = {pointer.section: pointer.text for pointer in pointers(demo_comparison)}
    assert found["groups"].startswith("The hardest group for shared-basis is “chart”: ")
    assert found["questions"].startswith("shared-basis beats the blind LLM on every kind of question")
    assert found["data"] == "2 pairs could not be used and were skipped."


def test_kinds_at_the_blind_level_and_heavy_clients_are_pointed_out(tmp_path):
    def edit(line):
        if line["kind"] == "evaluation":
            kinds = {"count": 0.31, "style": 0.3 if line["model"] == "blind" else 0.9}
            return {**line, "question_accuracy_by_kind": kinds}
        if line["kind"] == "client":
            return {**line, "weight": 0.6 if line["client"] == 1 else 0.1}
        return line

    write_run(tmp_path / "shared-basis", "shared-basis", rounds=2, samples=False, change=edit)
    found = {pointer.section: pointer.text for pointer in pointers(Comparison.of(load_runs(tmp_path)))}
    assert found["questions"].startswith(
        "shared-basis answers questions of the kind “count” no better than the blind LLM"
    )
    assert found["weights"].startswith("shared-basis gives client-1 the most weight (60 % on average)")
