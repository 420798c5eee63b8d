import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.claims import claims
from fedcmp.report.study.heat import heat_map
from fedcmp.report.study.resulttables import result_tables
from fedcmp.report.study.saying import details, headline, verdict, winner_sentences

from .fakes import blind_content, write_json, write_study
from .test_claims import study_of


def told(paragraphs):
    return ["".join(phrase.text for phrase in phrases) for phrases in paragraphs]


def test_one_sentence_counts_scenarios_and_says_what_is_beyond_the_noise(results):
    assert told([headline(results)]) == [
        "Fed-CMP has the lowest caption loss of all federated methods in 4 of 4 scenarios, in every one of them by "
        "more than two standard errors of the difference to every other."
    ]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({"shared-basis": [0.3, 0.31], "fedavg": [0.4, 0.42]}, "in 1 of 1 scenario, by more than two standard errors"),
        (
            {"shared-basis": [0.4, 0.42], "fedavg": [0.42, 0.41]},
            "in 1 of 1 scenario, not by more than two standard err",
        ),
        ({"shared-basis": [0.3], "fedavg": [0.4]}, "in 1 of 1 scenario, not by more than two standard errors"),
        ({"fedavg": [0.4, 0.41], "local": [1.0, 1.0]}, "FedAvg is the only federated method with figures so far."),
    ],
)
def test_one_sentence_never_says_more_than_the_seeds_do(tmp_path, losses, said):
    assert said in told([headline(study_of(tmp_path, losses))])[0]


def test_ours_first_then_every_scenario(results):
    said = told(details(results))
    assert said[0].startswith("Fed-CMP wins 4 of 4 scenarios on all of caption loss, worst-family loss and mean rank")
    assert "caption loss in 4, worst-family loss in 4 and mean rank in 4 of 4." in said[0]
    assert [line.split(":")[0] for line in said[1:]] == [one.scenario.title for one in results.comparisons]
    assert said[1].startswith("Image clusters: Fed-CMP, caption loss 0.395, 0.0220 (standard error 0.000")
    assert "below DiLoCo (n = 5, p < 0.001)." in said[1]


def test_losing_is_said_as_plainly(tmp_path):
    said = told(details(study_of(tmp_path, {"shared-basis": [0.44, 0.45], "fedavg": [0.40, 0.42]})))
    assert said[0].startswith("Fed-CMP wins 0 of 1 scenarios on all")
    assert "caption loss in 0, worst-family loss in 0 and mean rank in 0 of 1." in said[0]
    assert said[1].startswith(
        "Image clusters: FedAvg, caption loss 0.410, 0.0350 (standard error 0.0050) below Fed-CMP"
    )


def test_a_win_on_two_seeds_says_that_it_is_little(tmp_path):
    said = told(details(study_of(tmp_path, {"shared-basis": [0.30, 0.31], "fedavg": [0.40, 0.42]})))
    assert said[0].startswith("Fed-CMP wins 1 of 1 scenarios")
    assert "On two seeds only, which is little to go by: Image clusters." in said[0]


def test_what_is_within_the_noise_is_not_told_apart(tmp_path):
    said = told(details(study_of(tmp_path, {"shared-basis": [0.40, 0.42, 0.41], "fedavg": [0.42, 0.41, 0.42]})))
    assert "not told apart from FedAvg (difference 0.0067 (standard error 0.0088), n = 3, p = 0.529)." in said[1]


def test_one_seed_has_no_spread(tmp_path):
    said = told(details(study_of(tmp_path, {"shared-basis": [0.40], "fedavg": [0.42]})))
    assert said[0].startswith("Fed-CMP wins 0 of 1")
    assert "0.0200 below FedAvg; one common seed, so no spread is known." in said[1]


def test_lone_and_missing_methods(tmp_path):
    alone = study_of(tmp_path / "a", {"shared-basis": [0.40], "local": [1.0]})
    assert told(verdict(alone)) == [
        "Fed-CMP is the only federated method with figures so far.",
        "Image clusters: Fed-CMP, caption loss 0.400; no other federated method has a figure.",
    ]
    pooled = study_of(tmp_path / "b", {"centralized": [0.3]})
    assert told([winner_sentences(pooled.comparisons[0])]) == ["Image clusters: no federated figure yet."]
    empty = write_study(tmp_path / "c", change=lambda content: None, scenarios=("image",))
    assert told(verdict(Results.of(load_study(empty))))[0].startswith("Nothing has been evaluated yet.")


FEW = "Too few held-out pairs to name a winner: {}, and at least 100 are needed."
NOTHING = "Nothing learned yet: the lowest caption loss is 0.395 nats per token, without images 0.400."


@pytest.mark.parametrize(
    ("pairs", "blind", "told_instead"),
    [(7, 0.9, FEW.format(7)), (45, 0.9, FEW.format(45)), (100, 0.4, NOTHING), (100, 0.9, ""), (None, 0.9, "")],
)
def test_few_pairs_and_nothing_learned_decide_nothing_however_many_seeds_agree(tmp_path, pairs, blind, told_instead):
    folder = write_study(
        tmp_path,
        methods=("shared-basis", "fedavg"),
        scenarios=("image",),
        change=lambda content: {**content, "held_out": pairs},
    )
    write_json(folder / "references" / "blind.json", blind_content() | {"caption_loss": blind})
    found, won = Results.of(load_study(folder)), not told_instead
    said = told([headline(found)])[0]
    assert said == told_instead if told_instead else "has the lowest caption loss" in said
    assert any(row.cells[1].bold for row in heat_map(found).rows) is won
    assert any(row.best for one in result_tables(found) for row in one.table.rows) is won
    assert any(judged.met for judged in claims(found.comparisons[0])) is won
