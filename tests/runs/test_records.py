"""Records are strict where they are written and lenient where they are read."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedcmp.references import NOT_FEDERATED
from fedcmp.runs.fields import number, numbers, text, whole
from fedcmp.runs.records import (
    KINDS,
    ClientData,
    ClientRound,
    Evaluation,
    RunRecord,
    Sample,
    ServerRound,
    SiteEvent,
    read_line,
)

GOLDEN = Path(__file__).parents[1] / "golden"

# a line of each kind, with every key that is ever written
RUN = {"kind": "run", "method": "shared-basis", "title": "ours", "federated": True}
RUN |= {"rounds": 3, "clients": 5, "seed": 1, "versions": {"fedcmp": "0.1.0"}}
RUN |= {"started": "2026-11-26T10:00:00+00:00", "machine": "Linux, 2 cores", "parameters": 16576}
DATA = {"kind": "data", "client": 1, "client_name": "north", "num_pairs": 70, "bad_pairs": {"truncated": 2}}
DATA |= {"wrong_captions": 3, "groups": {"chart": 40, "word": 30}, "missing_pairs": 4}
CLIENT = {"kind": "client", "round": 2, "client": 1, "client_name": "north", "loss": 1.5, "loss_first": 2.0}
CLIENT |= {"loss_last": 1.25, "num_examples": 80, "alignment_error": 0.75, "update_norm": 2.5, "learning_rate": 0.01}
CLIENT |= {"bytes_up": 10, "bytes_down": 32, "seconds": 4.0, "weight": 0.25, "refused": "holds 12 NaN"}
CLIENT |= {"arrived": 4.5}
OPENING = {"kind": "opening", "round": 1, "seconds": 1.0, "bytes_sent": 64}
ROUND = {"kind": "round", "round": 2, "seconds": 9.5, "bytes_sent": 84, "diagnostics": {"beta.linear_1.weight": 0.5}}
ROUND |= {"missing": ["south"], "opened": "2026-11-26T10:00:02+00:00", "waited": 5.0}
SITE = {"kind": "site", "round": 2, "client": 1, "client_name": "north", "event": "late", "detail": "after 5 s"}
SITE |= {"seconds": 7.5, "bytes": 10}
SUITE = {"suite": "pope-world", "score": 70.0, "highest": 100.0, "chance": 50.0, "noise": 1.5, "units": 90}
SUITE |= {"detail": {"random": {"f1": 0.5}, "kinds": [1, 2]}}
EVALUATION = {"kind": "evaluation", "model": "global", "round": 2, "client": None, "split": "test", "caption_loss": 1.0}
EVALUATION |= {"worst_group": "chart", "worst_group_loss": 2.0, "group_losses": {"chart": 2.0, "word": 0.5}}
EVALUATION |= {"question_accuracy": 0.5, "question_accuracy_by_kind": {"count": 0.5}, "questions_by_kind": {"count": 8}}
EVALUATION |= {"suites": {"pope-world": SUITE}, "seconds": 1.5}
EVALUATION |= {"captions": 512}
FINISHED = {"kind": "finished", "seconds": 31.0, "ended": "2026-11-26T10:01:00+00:00"}
PAIRS = {"kind": "pairs", "name": "north", "read": 80, "train": 60, "held_out": 10, "judged": 8}
PAIRS |= {"refused": {"missing": 4}, "unused": {"text only": 6}, "ignored": {"later turns": 3}, "captions_cut": 9}
LINES = [RUN, PAIRS, DATA, CLIENT, OPENING, ROUND, SITE, EVALUATION, FINISHED]
OPTIONAL = {
    "run": {"title", "versions", "started", "machine", "parameters"},
    "data": {"missing_pairs"},
    "client": {"loss", "loss_first", "loss_last", "weight", "refused", "arrived"},
    "round": {"missing", "opened", "waited"},
    "site": {"detail", "bytes"},
    "evaluation": {"question_accuracy", "question_accuracy_by_kind", "questions_by_kind", "suites", "captions"},
    "finished": {"ended"},
}
each_line = pytest.mark.parametrize("line", LINES, ids=lambda line: line["kind"])


def test_every_kind_has_its_line_here():
    assert [line["kind"] for line in LINES] == list(KINDS)


@each_line
def test_a_line_is_written_and_read_with_all_its_keys(line):
    written = KINDS[line["kind"]](**line)
    assert written.line() == line
    read = read_line(json.loads(json.dumps(written.line())))
    assert type(read) is KINDS[line["kind"]]
    assert {key: getattr(read, key) for key in line if key != "suites"} == {k: line[k] for k in line if k != "suites"}
    assert read.line() == line


@each_line
def test_the_writer_must_give_every_key_but_the_optional_ones_and_no_other(line):
    kind = line["kind"]
    for key in line.keys() - {"kind"}:
        rest = {name: value for name, value in line.items() if name != key}
        if key in OPTIONAL.get(kind, set()):
            assert KINDS[kind](**rest).line() == rest
        else:
            with pytest.raises(ValidationError, match=key):
                KINDS[kind](**rest)
    with pytest.raises(ValidationError, match="weather"):
        KINDS[kind](**line, weather=1)


@each_line
@pytest.mark.parametrize("stray", ["3", True, {"a": "b"}, [1], None])
def test_the_writer_must_give_the_right_type_and_a_reader_takes_any(line, stray):
    kind = KINDS[line["kind"]]
    if "round" in line:
        with pytest.raises(ValidationError, match="round"):
            kind(**line | {"round": stray})
    for key in line.keys() - {"kind"}:
        read = read_line(line | {key: stray})
        value = getattr(read, key)
        right = type(stray) is type(line[key])  # a text for a text, a flag for a flag, an object for an object
        assert right or value is None or not value or key in ("split", "model", "federated", "worst_group_loss"), key


@each_line
def test_an_empty_line_reads_without_figures(line):
    read = read_line({"kind": line["kind"]})
    figures = {key: getattr(read, key) for key in line.keys() - {"kind", "model", "split", "federated"}}
    assert not any(figures.values())


def test_the_writer_turns_what_is_not_finite_into_null_and_a_reader_keeps_it():
    line = CLIENT | {"loss": math.nan, "update_norm": math.inf}
    assert ClientRound(**line).line() == CLIENT | {"loss": None, "update_norm": None}
    read = read_line(json.loads(json.dumps(line)))
    assert math.isnan(read.loss)
    assert read.update_norm == math.inf
    nested = SUITE | {"noise": math.nan, "detail": {"kinds": [math.inf, 1]}}
    written = Evaluation(**EVALUATION | {"suites": {"pope-world": nested}, "group_losses": {"chart": math.nan}}).line()
    assert written["suites"]["pope-world"] == SUITE | {"noise": None, "detail": {"kinds": [None, 1]}}
    assert written["group_losses"] == {"chart": None}


def test_a_record_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        ServerRound(**ROUND).seconds = 2.0


@pytest.mark.parametrize("method", [*NOT_FEDERATED, "shared-basis", "mine"])
def test_an_old_run_is_federated_by_its_methods_name_and_a_new_one_as_it_says(method):
    assert RunRecord.from_line({"method": method}).federated is (method not in NOT_FEDERATED)
    for said in (True, False):
        assert RunRecord.from_line({"method": method, "federated": said}).federated is said


def test_unknown_kinds_and_strays_are_no_records():
    assert [read_line(line) for line in ({"kind": "weather"}, {}, {"kind": ["run"]}, [1, 2], "text", None)] == [
        None
    ] * 6


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), (0.5, 0.5), (True, None), ("0.5", None), (None, None), ([1], None)]
)
def test_number_accepts_json_numbers_only(value, expected):
    assert number(value) == expected


def test_a_number_beyond_reason_counts_as_infinite_and_nan_survives():
    assert number(10**400) == math.inf
    assert number(-1e300) == -math.inf
    assert math.isnan(number(json.loads("NaN")))


@pytest.mark.parametrize(("value", "expected"), [(3, 3), (3.0, 3), (3.5, None), (math.inf, None), ("3", None)])
def test_whole_accepts_integers_only(value, expected):
    assert whole(value) == expected


def test_numbers_drops_what_is_no_number():
    assert numbers({"shapes": 3, "count": None, "word": "many"}) == {"shapes": 3.0}
    assert numbers([1, 2]) == {}


def test_worst_group_is_found_where_the_line_leaves_it_out():
    line = Evaluation.from_line({"group_losses": {"shapes": 0.5, "chart": 0.9, "word": 0.7}})
    assert (line.worst_group, line.worst_group_loss) == ("chart", 0.9)


def test_a_client_without_a_name_is_known_by_its_number():
    assert ClientRound.from_line({"client": None}).name == "client-0"
    assert ClientData.from_line({"client": 4}).name == "client-4"
    assert ClientData.from_line(DATA).name == "north"


def test_a_site_that_is_no_client_is_unknown_and_an_event_is_one_of_those_that_there_are():
    assert SiteEvent(**SITE).name == "north"
    assert SiteEvent(**SITE | {"client_name": ""}).name == "client-1"
    assert SiteEvent(**SITE | {"client": None, "client_name": ""}).name == "unknown"
    with pytest.raises(ValidationError, match="event"):
        SiteEvent(**SITE | {"event": "vanished"})
    assert SiteEvent.from_line(SITE | {"event": "vanished"}).event == "vanished"  # of a later version


def test_both_directions_of_a_client_count_as_bytes():
    assert ClientRound.from_line({"bytes_up": 10, "bytes_down": 32}).num_bytes == 42


def test_a_sample_is_written_and_read_and_without_key_is_known_by_its_image():
    entry = {"position": 3, "key": "a", "group": "chart", "reference": "x", "image": "samples/3.png"}
    entry |= {"captions": {"fedavg": "y"}}
    assert Sample(**entry).line() == entry == Sample.from_line(entry).line()
    assert Sample.from_line({"image": "samples/3.png", "captions": "none"}).key == "samples/3.png"
    assert Sample.from_line({"image": "samples/3.png", "key": 7}).key == "7"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_record_of_the_golden_runs_is_one_that_may_be_written(path):
    lines = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    assert {line["kind"] for line in lines} >= {"data", "client", "round", "evaluation", "finished"}
    for line in lines:
        timeless = line["kind"] in ("run", "pairs", "data")
        timed = line if timeless else {**line, "seconds": 1.0}  # times are not part of what is kept
        assert KINDS[line["kind"]](**timed).line() == timed


def test_reading_needs_no_torch():
    code = (
        "import sys, fedcmp.runs.records, fedcmp.runs.reading; "
        "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


HALF = "a\ud83d"


def strings(value):
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in [*strings(key), *strings(inner)]]
    if isinstance(value, list | tuple):
        return [found for inner in value for found in strings(inner)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("kind", [*KINDS.values(), Sample], ids=lambda kind: kind.__name__)
def test_half_a_character_is_a_question_mark_for_it_could_not_be_written(kind):
    suite = {HALF: {"suite": HALF, "score": 0.5}}
    stray = {"suites": suite}
    for given in (HALF, {HALF: 1}, {HALF: HALF}, [HALF]):
        record = kind.from_line({name: stray.get(name, given) for name in kind.model_fields})
        for found in strings(record.model_dump()):
            found.encode()
    assert text(HALF) == "a?"
    assert text("aé😀") == "aé😀"
