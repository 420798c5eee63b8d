"""The page of the rates says where each method is best and what half and twice that rate cost."""

from docs.write_rate_curves import best_rate, curves, draw, lost, page
from tests.docs.studies import study_of

LOSSES = {"FedAvg": {0.001: 0.5, 0.002: 0.42, 0.004: 0.40, 0.008: 0.47}, "shared-basis": {0.002: 0.31, 0.004: 0.33}}
METHODS = {
    f"{method}-{rate}": {"title": f"{method}, {rate}", "table": "rates", "arms": {"method": method, "rate": rate}}
    for method, curve in LOSSES.items()
    for rate in curve
}


def results_of(folder):
    losses = {f"{method}-{rate}": loss for method, curve in LOSSES.items() for rate, loss in curve.items()}
    return study_of(folder, METHODS, {"small": losses})


def test_curves_best_rates_and_what_is_lost_beside_them(tmp_path):
    found = curves(results_of(tmp_path / "study").comparisons[0])
    assert {method: list(curve) for method, curve in found.items()} == {m: list(c) for m, c in LOSSES.items()}
    assert {method: best_rate(curve) for method, curve in found.items()} == {"FedAvg": 0.004, "shared-basis": 0.002}
    assert [round(lost(found["FedAvg"], factor), 3) for factor in (0.5, 2.0)] == [0.02, 0.07]
    assert lost(found["shared-basis"], 0.5) is None


def test_the_page_and_its_figure(tmp_path):
    results = results_of(tmp_path / "study")
    text = page(results)
    assert "| FedAvg | 0.500 ± 0.002 | 0.420 ± 0.002 | **0.400 ± 0.002** | 0.470 ± 0.002 | +0.020 | +0.070 |" in text
    assert "| shared-basis | – | **0.310 ± 0.002** | 0.330 ± 0.002 | – | – | +0.020 |" in text
    draw(results, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5000
