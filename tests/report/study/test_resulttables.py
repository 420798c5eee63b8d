import math

import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.resulttables import result_tables

from .fakes import METHODS, write_study
from .test_claims import study_of


def table_of(results, key="image"):
    return next(one for one in result_tables(results) if one.key == key)


def column(table, title):
    at = [head.title for head in table.columns].index(title)
    return {row.cells[0].text: row.cells[at] for row in table.rows}


@pytest.fixture(scope="module")
def image(results):
    return table_of(results).table


def test_every_scenario_and_ablation_has_its_table(results):
    assert [(one.key, one.kind) for one in result_tables(results)] == [
        ("image", "main"),
        ("text", "main"),
        ("iid", "further"),
        ("image-20", "further"),
        ("ablation-3-image", "ablation"),
        ("ablation-4-image", "ablation"),
    ]
    assert table_of(results).title == "Image clusters — in the form of the paper's table 1"
    assert table_of(results, "text").title == "Text clusters — in the form of the paper's tables 2, 7 and 8"
    assert table_of(results, "iid").title == "IID"


def test_a_table_without_suites_is_not_called_the_papers(tmp_path):
    def change(content):
        return content | {"final": content["final"] | {"suites": {}}}

    write_study(tmp_path, methods=("fedavg",), scenarios=("image",), seeds=[1], change=change, extras=False)
    assert table_of(Results.of(load_study(tmp_path))).title == "Image clusters: losses"


def test_the_papers_columns_in_its_order(image):
    assert [head.title for head in image.columns] == [
        *(
            "Method",
            "mm-vet-world",
            "mmbench-world",
            "seed-world",
            "llava-bench-world",
            "pope-world",
            "mme-world",
            "mmvp-world †",
        ),
        *("Mean rank", "Caption loss", "Worst-family loss", "Mean loss", "Seeds", "p"),
    ]


def test_means_errors_and_seeds(image):
    losses = column(image, "Caption loss")
    assert losses["FedAvg"].text == "0.430"
    assert losses["FedAvg"].detail.startswith("± 0.00")
    assert losses["FedAvg"].value == pytest.approx(0.430)
    assert column(image, "Worst-family loss")["FedAvg"].text == "0.680"
    assert column(image, "Mean loss")["FedAvg"].text == "0.555"
    assert column(image, "Seeds")["FedAvg"].text == "5"
    assert image.columns[-2].unit == "of 5"


def test_best_is_bold_second_underlined_references_neither(image):
    losses = column(image, "Caption loss")
    assert [name for name, cell in losses.items() if cell.bold] == ["Fed-CMP"]
    assert [name for name, cell in losses.items() if cell.second] == ["DiLoCo"]
    assert losses["Centralized (pooled data)"].value < losses["Fed-CMP"].value


def test_reference_rows_are_last_and_unranked(image):
    titles = [row.cells[0].text for row in image.rows if row.reference]
    assert titles == ["Centralized (pooled data)", "Local (each client alone)", "blind", "chance"]
    assert all(row.reference for row in image.rows[-4:])
    ranks = column(image, "Mean rank")
    assert [ranks[title].text for title in titles] == ["–"] * 4
    assert column(image, "pope-world")["blind"].plain == "50.0 (1.4)"
    assert column(image, "Caption loss")["chance"].text == "–"


def test_p_is_of_the_best_row(image):
    p = column(image, "p")
    assert p["Fed-CMP"].text == "best"
    assert p["FedAvg"].text == "< 0.001"
    assert p["Centralized (pooled data)"].text == "–"


def test_a_suite_that_is_not_informative_is_marked_and_has_no_bold(image):
    assert next(head for head in image.columns if head.title == "mmvp-world †").quiet
    assert not any(cell.bold or cell.second for cell in column(image, "mmvp-world †").values())
    note = next(note for note in image.notes if note.startswith("† mmvp-world"))
    assert "blind 33.0" in note
    assert "twice the noise of the difference 5.7" in note  # 2 sqrt(2 * 2.0^2 + a small error of the seeds)


def test_equal_figures_share_the_bold(tmp_path):
    results = study_of(tmp_path, {"shared-basis": [0.4, 0.4], "fedavg": [0.4, 0.4], "ties": [0.5, 0.5]})
    losses = column(table_of(results).table, "Caption loss")
    assert [name for name, cell in losses.items() if cell.bold] == ["FedAvg", "Fed-CMP"]
    assert [name for name, cell in losses.items() if cell.second] == ["TIES"]


def test_arms_show_what_they_are_made_of_in_the_plans_order(results):
    table = table_of(results, "ablation-3-image").table
    assert [head.title for head in table.columns[:4]] == ["Method", "CSC", "RWF", "OPM"]
    assert [[cell.text for cell in row.cells[:4]] for row in table.rows] == [
        ["None", "·", "·", "·"],
        ["CSC", "✓", "·", "·"],
        ["RWF", "·", "✓", "·"],
        ["All", "✓", "✓", "✓"],
    ]
    assert [row.best for row in table.rows] == [False, False, True, False]
    gamma = table_of(results, "ablation-4-image").table
    assert [head.title for head in gamma.columns[:4]] == ["Method", "magnitude", "quality", "gamma"]
    assert [row.cells[3].text for row in gamma.rows] == ["1", "2"]


def test_one_seed_shows_no_error_and_no_p(tmp_path):
    table = table_of(study_of(tmp_path, {"shared-basis": [0.4], "fedavg": [0.45]})).table
    assert column(table, "Caption loss")["Fed-CMP"].plain == "0.400"
    assert column(table, "p")["FedAvg"].text == "–"


def test_missing_runs_and_cells_are_shown_as_they_are(tmp_path):
    def change(content):
        if content["method"] == "ties":
            return None
        if content["method"] == "fedavg":
            if content["seed"] > 3:
                return None
            if content["seed"] == 2:
                del content["final"]["suites"]["pope-world"]
        return content

    results = Results.of(load_study(write_study(tmp_path, scenarios=("image",), change=change)))
    table = table_of(results).table
    assert column(table, "Seeds")["FedAvg"].text == "3"
    assert column(table, "pope-world")["FedAvg"].detail.endswith("n = 2")
    assert column(table, "Mean rank")["FedAvg"].detail.endswith("n = 2")
    assert column(table, "Mean rank")["Fed-CMP"].detail.endswith("n = 2")
    assert "Not run here: TIES." in table.notes
    assert "The mean ranks are of 2 seeds, as many as all ranked methods ran." in table.notes


def test_a_diverged_method_is_named(tmp_path):
    results = study_of(tmp_path, {"shared-basis": [0.4, 0.41], "fedavg": [0.45, math.nan]})
    table = table_of(results).table
    assert column(table, "Caption loss")["FedAvg"].text == "diverged"
    assert "Diverged or failed at one seed at least, so without a mean: FedAvg." in table.notes


def test_a_failed_run_is_no_mean_and_the_last_rank(tmp_path):
    def fail(content):
        if (content["method"], content["seed"]) != ("shared-basis", 2):
            return content
        return {key: content[key] for key in ("format", "scenario", "method", "seed")} | {"failed": "loss is NaN"}

    methods = ("fedavg", "shared-basis", "ties", "centralized")
    results = Results.of(load_study(write_study(tmp_path, methods=methods, scenarios=("image",), change=fail)))
    table = table_of(results).table
    assert column(table, "Caption loss")["Fed-CMP"].text == "diverged"
    assert column(table, "pope-world")["Fed-CMP"].text == "diverged"
    assert column(table, "Mean rank")["Fed-CMP"].value == pytest.approx((4 * 1 + 3) / 5)
    assert table.rows[0].cells[0].text == "FedAvg"


def test_many_absent_methods_are_counted(tmp_path):
    def only(content):
        return content if content["method"] == "shared-basis" else None

    results = Results.of(load_study(write_study(tmp_path, scenarios=("image",), change=only)))
    assert any(note.endswith("Fed-CMP (as published) and 2 more.") for note in table_of(results).table.notes)


def test_without_references_the_suites_count_unjudged(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg", "shared-basis"), scenarios=("image",))
    (folder / "references" / "blind.json").unlink()
    table = table_of(Results.of(load_study(folder))).table
    assert not any(row.reference for row in table.rows)
    assert any("not known whether they are informative" in note for note in table.notes)


def test_all_methods_have_a_swatch(results, image):
    for row in image.rows:
        assert row.cells[0].colour
    assert len([row for row in image.rows if not row.reference]) == sum(
        federated for _, federated, _, _ in METHODS.values()
    )


def test_losses_on_shuffled_images_are_shown_and_nothing_is_concluded_from_them(tmp_path):
    def change(content):
        return content | {"final": content["final"] | {"shuffled_loss": 0.8 + content["seed"] / 100}}

    write_study(tmp_path, methods=("fedavg", "shared-basis"), scenarios=("image",), seeds=[1, 2], change=change)
    table = table_of(Results.of(load_study(tmp_path))).table
    head = next(head for head in table.columns if head.title == "Shuffled images")
    assert (head.unit, head.better) == ("nats", "")
    cells = column(table, "Shuffled images")
    assert cells["FedAvg"].text == "0.815"
    assert not any(cell.bold or cell.second for cell in cells.values())
    assert cells["blind"].text == "–"
    assert any(note.startswith("Shuffled images:") for note in table.notes)
