from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.remarks import facts, pointers, warnings

from .fakes import write_run


def test_facts_say_what_ran(demo_comparison):
    assert facts(demo_comparison) == [
        ("Data", "embedded world, split among clients by image"),
        ("Pairs", "19\u202f200"),
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
    assert found["groups"].startswith("chart is the hardest group for shared-basis")
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
    assert found["questions"].startswith("shared-basis answers count no better than the blind LLM")
    assert found["weights"].startswith("shared-basis gives client-1 the most weight (60 % on average)")
