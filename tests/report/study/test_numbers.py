import json

import pytest

from fedcmp.report.study.numbers import study_numbers

from .fakes import METHODS, SEEDS, caption_loss
from .test_claims import study_of


@pytest.fixture(scope="module")
def numbers(results):
    return json.loads(json.dumps(study_numbers(results), allow_nan=False))


def test_every_methods_figures_with_seeds(numbers):
    methods = numbers["scenarios"]["image"]["methods"]
    assert set(methods) == set(METHODS)
    loss = methods["fedavg"]["metrics"]["caption_loss"]
    assert loss["mean"] == pytest.approx(0.430)
    assert loss["seeds"] == 5
    assert loss["by_seed"] == {str(seed): pytest.approx(caption_loss("fedavg", "image", seed)) for seed in SEEDS}
    assert set(methods["fedavg"]["metrics"]) >= {"mean_rank", "pope-world", "worst_family_loss", "mean_loss"}
    assert "mean_rank" not in methods["centralized"]["metrics"]
    assert methods["fedavg"]["rounds"]["caption_loss"]["10"]["mean"] == pytest.approx(0.430)
    assert methods["fedavg"]["oscillation"]["caption_loss"]["mean"] >= 0


def test_claims_suites_distances_and_p(numbers):
    image = numbers["scenarios"]["image"]
    assert image["best"] == "shared-basis"
    assert image["claims"]["caption_loss"]["met"] is True
    assert image["claims"]["caption_loss"]["difference"]["mean"] == pytest.approx(0.022)
    assert image["suites"]["mmvp-world"]["informative"] is False
    assert image["distance_closed"]["shared-basis"]["mean"] == pytest.approx(35 / 145)
    against = image["ours_against"]["caption_loss"]["fedavg"]
    assert against["mean"] == pytest.approx(0.035)
    assert against["p_holm"] >= against["p"]
    assert image["methods"]["fedavg"]["p_to_best"] == pytest.approx(against["p_holm"])


def test_ablations_heterogeneity_and_tuning(numbers):
    arm = numbers["ablations"]["3"]["image"]["arm-rwf"]
    assert arm["arms"] == {"CSC": False, "RWF": True, "OPM": False}
    assert arm["metrics"]["caption_loss"]["mean"] == pytest.approx(0.420)
    assert numbers["heterogeneity"]["image"]["family_divergence"]["seeds"] == 5
    assert numbers["tuning"]["fedavg"] == {
        "trials": 4,
        "chosen": {"learning_rate": 0.003, "options": {}},
        "caption_loss": 0.58,
    }


def test_what_diverged_or_has_one_seed_is_null(tmp_path):
    found = study_numbers(study_of(tmp_path, {"shared-basis": [0.4], "fedavg": [float("inf")]}))
    methods = json.loads(json.dumps(found, allow_nan=False))["scenarios"]["image"]["methods"]
    assert methods["shared-basis"]["metrics"]["caption_loss"]["standard_error"] is None
    assert methods["fedavg"]["metrics"]["caption_loss"]["mean"] is None
    assert methods["fedavg"]["metrics"]["caption_loss"]["by_seed"] == {"1": None}
