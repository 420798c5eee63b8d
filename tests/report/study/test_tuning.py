from fedcmp.report.study import Results, load_study
from fedcmp.report.study.tuning import best_loss, tuning_table, write_settings
from fedcmp.runs.study_records import Tuning

from .fakes import write_json, write_study


def test_one_row_a_method_in_the_studys_order(results):
    table = tuning_table(results)
    assert [row.cells[0].text for row in table.rows][:2] == ["FedAvg", "FedAvgM"]
    assert [cell.text for cell in table.rows[0].cells[1:]] == [
        "4",
        "learning rate 0.003",
        "0.580",
        "learning rate 0.001, 0.003, 0.01, 0.03",
        "Image clusters, seed 100, 4\u202f000 captions",
    ]


def test_nested_options_are_written_by_their_own_names():
    settings = {"learning_rate": 1e-4, "options": {"mu": 0.1, "base": None}, "objective": "prox"}
    assert write_settings(settings) == "learning rate 0.0001, mu 0.1, objective prox"


def test_a_servers_rate_is_not_taken_for_a_clients():
    settings = {"options": {"learning_rate": 0.01}, "learning_rate": 0.003}
    assert write_settings(settings) == "options learning rate 0.01, learning rate 0.003"


def test_the_loss_is_that_of_the_chosen_settings_at_the_most_captions():
    tried = ((1.0, 4000, 0.5), (0.1, 4000, 0.6), (0.1, 8000, 0.55), (0.1, None, None))
    trials = [{"settings": {"mu": mu}, "captions": count, "caption_loss": loss} for mu, count, loss in tried]
    assert best_loss(Tuning.from_line({"trials": trials, "chosen": {"mu": 0.1}})) == 0.55
    assert best_loss(Tuning.from_line({"trials": trials, "chosen": {"mu": 7.0}})) is None


def test_an_unfinished_tuning_shows_what_there_is(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("image",), seeds=(1,), extras=False)
    assert tuning_table(Results.of(load_study(folder))) is None
    write_json(folder / "tuning" / "unknown.json", {"method": "unknown", "trials": []})
    row = tuning_table(Results.of(load_study(folder))).rows[0]
    assert [cell.text for cell in row.cells] == ["unknown", "0", "–", "–", "–", "–"]
