import statistics

import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.maps import heterogeneity, heterogeneity_table, map_panels

from .fakes import scenario_content, write_json, write_study


def test_one_map_a_scenario_from_the_first_seed_that_has_one(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image", "text"), seeds=(1, 2))
    bare = scenario_content("image", 1)
    del bare["map"]
    write_json(folder / "scenarios" / "image" / "seed-1.json", bare)
    (folder / "scenarios" / "text" / "seed-1.json").unlink()
    (folder / "scenarios" / "text" / "seed-2.json").unlink()
    panels = map_panels(Results.of(load_study(folder)))
    assert [(panel.title, panel.subtitle) for panel in panels] == [
        ("Image clusters", "t-SNE of image, 400 pairs, seed 2"),
    ]
    assert [list(map(list, zip(*panel.chart.points, strict=True))) for panel in panels] == [
        [scenario_content("image", 2)["map"][axis] for axis in ("x", "y", "client")]
    ]
    assert panels[0].chart.names[0] == "client 0"


def test_heterogeneity_is_a_mean_over_seeds_in_an_order(results):
    table = heterogeneity_table(results)
    holdings = results.study.holdings["image"]
    given = [holding.heterogeneity["family_divergence"] for holding in holdings]
    found = heterogeneity(holdings)["family_divergence"]
    assert (found.mean, found.error) == (pytest.approx(0.403), pytest.approx(statistics.stdev(given) / 5**0.5))
    assert [column.title for column in table.columns[:3]] == ["Measure", "Text clusters", "Image clusters"]
    assert [row.cells[2].plain for row in table.rows] == [
        "3\u202f000 to 3\u202f400",
        f"0.403 ± {statistics.stdev(given):.3f}",
        "5",
    ]
    assert table.notes[0] == "± is the standard deviation over seeds."
    assert (table.rows[1].cells[-1].text, table.rows[1].cells[-1].bold) == ("image > text", True)


def test_an_order_that_is_not_the_papers_is_said(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image", "joint", "text"), seeds=(1,))
    write_json(folder / "scenarios" / "text" / "seed-1.json", {"heterogeneity": {"family_divergence": 0.9}})
    table = heterogeneity_table(Results.of(load_study(folder)))
    assert (table.rows[1].cells[-1].text, table.rows[1].cells[-1].bold) == ("text > image > joint", False)
    assert table.rows[0].cells[3].text == "–"
    assert table.notes[-1].endswith("An order in bold is the paper's: image > joint > text.")


def test_every_measure_gives_its_own_order(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image", "text"), seeds=(1,))
    for scenario, size in (("image", 2.0), ("text", 1.0)):
        similarity = {kind: {"within": 0.5, "between": 0.4, "gap": 0.1 * size} for kind in ("image", "text")}
        measured = {"alignment": [0.1], "similarity": similarity, "silhouette": {"image": -size, "text": None}}
        write_json(folder / "scenarios" / scenario / "seed-1.json", {"heterogeneity": measured, "sizes": [4, 5]})
    table = heterogeneity_table(Results.of(load_study(folder)))
    assert [(row.cells[0].text, row.cells[-1].text, row.cells[-1].bold) for row in table.rows[1:-1]] == [
        ("similarity image gap", "image > text", True),
        ("similarity text gap", "image > text", True),
        ("silhouette image", "text > image", False),
    ]


def test_nothing_known_no_table(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image",), extras=False)
    results = Results.of(load_study(folder))
    assert heterogeneity_table(results) is None
    assert map_panels(results) == []
