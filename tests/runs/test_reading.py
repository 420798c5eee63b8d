import json

import pytest

from fedcmp.checksums import sealed, sealed_toml
from fedcmp.errors import UserError
from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.runs.reading import load_runs
from fedcmp.runs.record_files import json_lines
from fedcmp.runs.records import SPLITS
from tests.report.fakes import PROJECTOR_BYTES, write_lines, write_run


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A comparison as `make demo` leaves it: four methods, five clients, ten rounds, one seed."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    for method in ("centralized", "fedavg", "shared-basis", "local"):
        write_run(folder / method, method)
    return folder


def test_a_comparison_holds_its_runs_by_folder_name(demo):
    assert [run.method for run in load_runs(demo)] == ["centralized", "fedavg", "local", "shared-basis"]


def test_a_run_knows_what_it_was_asked_and_what_it_used(demo):
    run = load_runs(demo / "fedavg")[0]
    assert (run.name, run.seed, run.rounds, run.num_clients, run.finished) == ("fedavg", 0, 10, 5, True)
    assert run.num_bytes == 2 * 10 * 5 * PROJECTOR_BYTES
    assert run.seconds == 31.0
    assert run.num_pairs == 3 * 4500 + 2 * 2850
    assert run.round_reached == 10


def test_runs_one_level_deeper_are_found(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "fedavg" / f"seed-{seed}", "fedavg", seed=seed, rounds=1, samples=False)
    assert [run.seed for run in load_runs(tmp_path)] == [0, 1]


@pytest.mark.parametrize(
    "tail", ['{"kind": "evaluation", "model": "glo', '{"kind": "evaluation", "na\xe4'.encode()[:-1]]
)
def test_a_torn_last_line_is_left_out(tmp_path, tail):
    folder = write_run(tmp_path / "run", "fedavg", rounds=2, samples=False)
    whole = load_runs(folder)[0].evaluations
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(tail if isinstance(tail, bytes) else tail.encode())
    assert load_runs(folder)[0].evaluations == whole


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    write_lines(tmp_path, [{"kind": "round", "round": 1}])
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"kind": "round"\n' + metrics.read_text())
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1: damaged .*; restore"):
        load_runs(tmp_path)


def test_of_two_lines_about_the_same_thing_the_later_counts(tmp_path):
    first = {"kind": "round", "round": 1, "seconds": 9.0, "bytes_sent": 100}
    write_lines(tmp_path, [first, {**first, "seconds": 4.0}, {**first, "round": 2}])
    run = load_runs(tmp_path)[0]
    assert run.seconds == 13.0
    assert run.num_bytes == 200


def test_a_client_may_have_several_parts_in_one_merge(tmp_path):
    first = {"kind": "client", "round": 2, "client": 1, "part": 3, "staleness": 0, "num_examples": 8}
    again = {**first, "num_examples": 9}
    write_lines(tmp_path, [first, {**first, "part": 4, "staleness": 1}, again])
    run = load_runs(tmp_path)[0]
    found = [(line.part, line.staleness, line.num_examples) for line in run.client_rounds]
    assert found == [(3, 0, 9), (4, 1, 8)]


def test_a_run_has_as_many_rounds_as_its_record_says(tmp_path):
    """An asynchronous one merges more often than its clients' pairs have parts."""
    write_lines(tmp_path, [{"kind": "run", "method": "fedavg", "rounds": 25}])
    (tmp_path / "recipe.toml").write_text("[federation]\nrounds = 5\n")
    assert load_runs(tmp_path)[0].rounds == 25


def test_an_opening_round_is_sent_too(tmp_path):
    rounds = [{"kind": "round", "round": number, "bytes_sent": 100} for number in (1, 2)]
    write_lines(tmp_path, [{"kind": "opening", "round": 1, "bytes_sent": 30}] * 2 + rounds)
    assert load_runs(tmp_path)[0].num_bytes == 230


@pytest.mark.parametrize("measured", [["held out"], ["validation"], ["validation", "test"], ["test", "held out"]])
def test_figures_are_of_the_split_that_was_measured(tmp_path, measured):
    """One's own data have no test split, but what each client holds out."""
    lines = [
        {"kind": "evaluation", "round": 1, "model": model, "split": split, "caption_loss": loss + SPLITS.index(split)}
        for split in measured
        for model, loss in (("blind", 2.5), ("global", 1.5))
    ]
    write_lines(tmp_path, lines)
    run = load_runs(tmp_path)[0]
    first = min(map(SPLITS.index, measured))
    assert run.split == SPLITS[first]
    assert run.reference("blind").caption_loss == 2.5 + first
    assert Comparison.of([run]).methods[0].value(CAPTION_LOSS).mean == 1.5 + first


def test_unknown_kinds_and_keys_and_stray_values_are_passed_over(tmp_path):
    lines = [{"kind": "weather", "sun": 1}, {"kind": "round", "round": 1, "seconds": 2.0, "moon": []}]
    write_lines(tmp_path, lines)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('[1, 2]\n"text"\n\n')
    assert load_runs(tmp_path)[0].seconds == 2.0


def test_a_run_without_recipe_takes_its_method_from_the_folder(tmp_path):
    write_lines(tmp_path / "ties", [])
    run = load_runs(tmp_path / "ties")[0]
    assert (run.method, run.seed, run.finished, run.round_reached) == ("ties", None, False, 0)


@pytest.mark.parametrize("method", ["centralized-large-batch", "centralized", "local"])
def test_a_reference_is_never_the_best_federated_method(tmp_path, method):
    losses = {method: 0.5, "fedavg": 0.9}
    for name, loss in losses.items():
        models = {"model": "client", "client": 0} if name == "local" else {"model": "global"}
        line = {"kind": "evaluation", "round": 1, "split": "test", "caption_loss": loss} | models
        write_lines(tmp_path / name, [line, {"kind": "finished", "seconds": 1.0}])
    comparison = Comparison.of(load_runs(tmp_path))
    assert [one.name for one in comparison.federated] == ["fedavg"]
    assert comparison.best.name == "fedavg"
    assert [one.name for one in comparison.methods] == ["fedavg", method]  # references come last in every table


def test_a_run_is_what_its_record_says_whatever_its_folder_is_called(tmp_path):
    record = {"kind": "run", "method": "pooled", "federated": False, "rounds": 2, "clients": 3, "seed": 7}
    write_lines(tmp_path / "fedavg", [record])
    run = load_runs(tmp_path / "fedavg")[0]
    assert (run.method, run.federated, run.seed, run.rounds, run.num_clients) == ("pooled", False, 7, 2, 3)


@pytest.mark.parametrize(
    ("recipe", "clients"),
    [
        ("[scenario]\nclients = 5\n", 5),
        ("[federation]\nclients = 4\n", 4),
        ('[data]\nclients = [{name = "a"}, {name = "b"}]\n[scenario]\nclients = 5\n', 2),
        ("[data]\nclients = []\n", None),
    ],
)
def test_clients_are_counted_wherever_the_recipe_says_them(tmp_path, recipe, clients):
    write_lines(tmp_path, [])
    (tmp_path / "recipe.toml").write_text(recipe)
    assert load_runs(tmp_path)[0].num_clients == clients


@pytest.mark.parametrize(
    ("recipe", "method"),
    [('methods = ["shared-basis"]', "shared-basis"), ('method = "ties"', "ties"), ('methods = ["a", "b"]', "folder")],
)
def test_the_method_is_the_recipes_else_the_folders(tmp_path, recipe, method):
    write_lines(tmp_path / "folder", [])
    (tmp_path / "folder" / "recipe.toml").write_text(f"[run]\n{recipe}\n")
    assert load_runs(tmp_path)[0].method == method


def test_local_rounds_count_when_all_clients_have_reached_them(tmp_path):
    def up_to_client_2(line):
        late = line.get("client") in (3, 4) and (line.get("round") or 0) > 3
        return None if late or line["kind"] == "finished" else line

    run = load_runs(write_run(tmp_path / "local", "local", change=up_to_client_2, samples=False))[0]
    assert list(run.measures("test")) == [1, 2, 3]
    assert [line.client for line in run.measures("test")[3]] == [0, 1, 2, 3, 4]


def test_a_global_model_speaks_before_its_clients(tmp_path):
    line = {"kind": "evaluation", "round": 1, "split": "test"}
    write_lines(
        tmp_path,
        [
            {**line, "model": "client", "client": 0, "caption_loss": 2.0},
            {**line, "model": "global", "client": None, "caption_loss": 1.0},
        ],
    )
    assert [line.caption_loss for line in load_runs(tmp_path)[0].measures("test")[1]] == [1.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.toml", "[run", r"recipe\.toml: not TOML.*; restore"),
        ("recipe.toml", b"\xff\xfe", r"recipe\.toml: not UTF-8"),
        ("recipe.toml", "", r"recipe\.toml: is empty; restore"),
        ("samples.json", "[{", r"samples\.json: not JSON.*; remove"),
        ("samples.json", "{}", r"samples\.json: holds no list.*; remove"),
    ],
)
def test_a_broken_file_is_named_with_the_mend(tmp_path, name, content, message):
    write_lines(tmp_path, [])
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        load_runs(tmp_path)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no run in it .*fedcmp train RECIPE"):
        load_runs(tmp_path)
    with pytest.raises(UserError, match=r"absent: no such folder; name"):
        load_runs(tmp_path / "absent")


def test_a_picture_list_with_strays_keeps_its_samples(tmp_path):
    write_lines(tmp_path, [])
    (tmp_path / "samples.json").write_text(json.dumps([3, {"key": "a", "captions": {"fedavg": "x"}}]))
    assert [sample.key for sample in load_runs(tmp_path)[0].samples] == ["a"]


def test_lines_count_once_their_newline_is_there(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n\n[2]\n{"b": 3}')
    assert json_lines(path) == [{"a": 1}, [2]]
    path.write_bytes(b'{"a": 1}\n\xff\n')
    with pytest.raises(UserError, match=r"lines\.jsonl: line 2: damaged .*; restore"):
        json_lines(path)
    with pytest.raises(UserError, match="absent: cannot be read"):
        json_lines(tmp_path / "absent")


def test_recipe_and_samples_are_checked_against_their_checksums(tmp_path):
    write_lines(tmp_path, [])
    recipe, samples = tmp_path / "recipe.toml", tmp_path / "samples.json"
    recipe.write_text(sealed_toml("[run]\nseed = 3\n"))
    samples.write_text(json.dumps([sealed({"key": "a", "captions": {"fedavg": "x"}})]))
    (run,) = load_runs(tmp_path)
    assert run.seed == 3
    assert [sample.captions for sample in run.samples] == [{"fedavg": "x"}]
    for path, old, new in ((recipe, "3", "7"), (samples, '"x"', '"y"')):
        whole = path.read_text()
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(UserError, match=rf"{path.name}: damaged .*not what was written"):
            load_runs(tmp_path)
        path.write_text(whole)


def test_a_run_can_be_seen_as_it_was_after_a_round(demo):
    run = load_runs(demo / "fedavg")[0].up_to(4)
    assert run.round_reached == 4
    assert {line.round for line in run.client_rounds} == {1, 2, 3, 4}
    assert run.reference("blind") is not None


def test_a_run_with_checkpoints_has_lost_its_recipe(tmp_path):
    write_lines(tmp_path / "ties", [])
    (tmp_path / "ties" / "checkpoints" / "round-0001").mkdir(parents=True)
    with pytest.raises(UserError, match=r"recipe\.toml: cannot be read \(No such file"):
        load_runs(tmp_path)
