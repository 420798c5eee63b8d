"""The page that splits the gain says what the study's records hold."""

import pytest

from docs.write_gain import CEILINGS, draw, grid, page, shares
from fedcmp.report.study.metrics import CAPTION_LOSS
from tests.docs.studies import study_of


def cell(step, server, title, family="baseline"):
    return {
        "title": title,
        "federated": True,
        "family": family,
        "table": ["factorial"],
        "arms": {"factorial": {"step": step, "server": server}},
    }


METHODS = {
    "fedavg": cell("AdamW", "mean", "FedAvg"),
    "muon": cell("Muon", "mean", "Muon"),
    "canonical": cell("canonical", "mean", "canonical steps")
    | {
        "table": ["factorial", "basis"],
        "arms": {"factorial": {"step": "canonical", "server": "mean"}, "basis": {"basis": "shared"}},
    },
    "basis-own": {
        "title": "own basis",
        "federated": True,
        "family": "ours",
        "table": ["basis"],
        "arms": {"basis": {"basis": "each client's own"}},
    },
    "shared-basis": cell("canonical", "shared-basis", "shared-basis (ours)", "ours"),
    **{name: {"title": name, "federated": False, "family": "reference"} for name in CEILINGS},
}
IMAGE = {
    "fedavg": 0.42,
    "muon": 0.40,
    "canonical": 0.34,
    "basis-own": 0.37,
    "shared-basis": 0.32,
    **dict(zip(CEILINGS, (0.28, 0.26, 0.34, 0.31), strict=True)),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    losses = {"image": IMAGE, "image-5": {"fedavg": 0.41, "shared-basis": 0.33}}
    return study_of(tmp_path_factory.mktemp("gain") / "study", METHODS, losses)


def test_the_stages_shares_are_those_of_the_losses(results):
    rows = shares(results.comparisons[0])
    assert [round(100 * share.mean) for _, _, share in rows[1:]] == [31, 19, 13, 38]
    assert sum(share.mean for _, _, share in rows[1:]) == pytest.approx(1)


def test_the_grid_has_every_cell_in_its_place(results):
    table = grid(results.comparisons[0], CAPTION_LOSS)
    assert [column.title for column in table.columns][1:] == ["shared-basis", "mean"]
    cells = {row.cells[0].text: [one.text for one in row.cells[1:]] for row in table.rows}
    assert cells == {"canonical": ["0.320", "0.340"], "Muon": ["–", "0.400"], "AdamW": ["–", "0.420"]}
    assert [one.text for row in table.rows for one in row.cells if one.bold] == ["0.320"]


def test_the_page_and_its_figure(results, tmp_path):
    text = page(results)
    for expected in (
        "## Image: from FedAvg to pooled data",
        "| pooled data, the same step, a client's batch | 0.260 ± 0.002 | 38 % ± 0 |",
        "| centralized-with-canonical | 0.260 ± 0.002 | 62 % ± 0 | 50 % ± 0 |",
        "| each client's own | 0.370 ± 0.002 | 0.620 ± 0.002 | +0.0300 ± 0.0000 |",
        "| Image-5 | FedAvg | 0.410 ± 0.002 | 0.660 ± 0.002 | 3 |",
    ):
        assert expected in text
    draw(results, tmp_path / "gain.png")
    assert (tmp_path / "gain.png").stat().st_size > 5000


def test_a_study_that_is_not_finished_has_what_is_there(tmp_path):
    results = study_of(tmp_path / "study", METHODS, {"image": {"fedavg": 0.42, "muon": 0.4}})
    assert "0.400 ± 0.002" in page(results)
    assert "pooled data" not in page(results)
