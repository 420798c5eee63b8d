import math

from fedcmp.runs.records import read_line
from fedcmp.tracking.points import Point, points

CLIENT = {
    "kind": "client",
    "round": 3,
    "client": 1,
    "client_name": "hospital-b",
    "loss": 1.5,
    "num_examples": 80,
    "alignment_error": 0.9,
    "update_norm": 2.0,
    "weight": 0.25,
    "learning_rate": 0.01,
    "seconds": 4.0,
}


def test_a_clients_line_gives_its_curves_at_its_round():
    assert set(points(read_line(CLIENT))) == {
        Point("train_loss/hospital-b", 3, 1.5),
        Point("throughput/hospital-b", 3, 20.0),
        Point("alignment_error/hospital-b", 3, 0.9),
        Point("weight/hospital-b", 3, 0.25),
        Point("update_norm/hospital-b", 3, 2.0),
        Point("learning_rate/hospital-b", 3, 0.01),
    }


def test_a_rounds_line_gives_bytes_and_each_layers_drift_and_momentum():
    diagnostics = {"divergence.linear_1.weight": 0.2, "beta.linear_1.weight": 0.6, "rank.linear_2.weight": 7.0}
    line = {"kind": "round", "round": 2, "seconds": 9.5, "bytes_sent": 1000, "diagnostics": diagnostics}
    assert set(points(read_line(line))) == {
        Point("round/seconds", 2, 9.5),
        Point("round/bytes_sent", 2, 1000.0),
        Point("drift_d/linear_1.weight", 2, 0.2),
        Point("momentum_b/linear_1.weight", 2, 0.6),
        Point("rank/linear_2.weight", 2, 7.0),
    }


def test_an_evaluations_line_is_told_apart_by_model():
    figures = {"caption_loss": 1.0, "worst_group": "number", "worst_group_loss": 2.0, "question_accuracy": 0.5}
    figures |= {"shuffled_loss": 3.0}
    by_name = {"group_losses": {"word": 1.5}, "question_accuracy_by_kind": {"count": 0.25}}
    line = {"kind": "evaluation", "round": 4, "suites": {"pope-world": {"score": 70.0}}} | figures | by_name
    expected = {
        "eval/caption_loss": 1.0,
        "eval/shuffled_loss": 3.0,
        "eval/worst_group_loss": 2.0,
        "eval/question_accuracy": 0.5,
        "eval_group_loss/word": 1.5,
        "eval_question/count": 0.25,
        "eval_suite/pope-world": 70.0,
    }
    for model, suffix in (("global", ""), ("initial", ""), ("blind", "/blind"), ("client", "/client-2")):
        found = points(read_line(line | {"model": model, "client": 2 if model == "client" else None}))
        assert {point.tag: point.value for point in found} == {f"{tag}{suffix}": v for tag, v in expected.items()}


def test_an_opening_round_tells_its_bytes():
    line = {"kind": "opening", "round": 1, "seconds": 1.0, "bytes_sent": 64}
    assert points(read_line(line)) == [Point("round/bytes_opening", 1, 64.0)]


def test_what_is_missing_or_not_finite_has_no_point():
    line = CLIENT | {"loss": None, "weight": math.inf, "seconds": 0.0}
    del line["update_norm"]
    assert {tag.partition("/")[0] for tag, _, _ in points(read_line(line))} == {"alignment_error", "learning_rate"}
    assert points(read_line({"kind": "finished", "seconds": 3.0})) == []
    assert points(read_line({"kind": "data", "client": 0, "num_pairs": 5})) == []
    assert (
        points(read_line({"kind": "round", "round": 1, "seconds": None, "bytes_sent": None, "diagnostics": None})) == []
    )


def test_names_that_trackers_would_change_stay_apart():
    tags = [
        points(read_line(CLIENT | {"client_name": name, "client": number}))[0].tag
        for number, name in enumerate(("St. Anna", "St_ Anna", "St__Anna"))
    ]
    assert tags == ["train_loss/St._Anna-0", "train_loss/St__Anna-1", "train_loss/St__Anna"]
