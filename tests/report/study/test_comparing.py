import statistics

import pytest

from fedcmp.report.study import Results, load_study
from fedcmp.report.study.comparing import arms_comparison, main_comparison
from fedcmp.report.study.statistics import holm

from .fakes import METHODS, SEEDS, WIGGLE, blind_content, caption_loss, write_json, write_study


def compare(folder, name="image"):
    study = load_study(folder)
    return main_comparison(study, study.scenarios[name])


@pytest.fixture(scope="module")
def image(results):
    return next(one for one in results.comparisons if one.scenario.name == "image")


def test_federated_methods_stand_by_caption_loss_and_references_apart(image):
    expected = sorted((loss, name) for name, (_, federated, _, loss) in METHODS.items() if federated)
    assert [entry.method.name for entry in image.entries] == [name for _, name in expected]
    assert [entry.method.name for entry in image.references] == ["centralized", "local"]
    assert image.winner.method.name == "shared-basis"


def test_means_are_those_that_were_put_in(image):
    for entry in (*image.entries, *image.references):
        found = image.estimate(entry, "caption_loss")
        assert found.mean == pytest.approx(METHODS[entry.method.name][3])
        losses = [caption_loss(entry.method.name, "image", seed) for seed in SEEDS]
        assert found.error == pytest.approx(statistics.stdev(losses) / 5**0.5)


def test_arms_take_no_part_in_the_main_table(image):
    assert not any(entry.method.name.startswith("arm") for entry in image.entries)


def test_p_values_are_holms_over_all_rivals_of_the_winner(image):
    differences = image.differences(image.winner, "caption_loss")
    assert set(differences) == {entry.method.name for entry in image.entries} - {"shared-basis"}
    expected = dict(zip(differences, holm([d.p for d in differences.values()]), strict=True))
    assert image.p_values == expected
    assert differences["fedavg"].mean == pytest.approx(0.430 - 0.395)


def test_the_suite_that_measures_nothing_is_left_out_of_the_ranks(image):
    assert not image.judged["mmvp-world"].informative
    assert all(judged.informative for suite, judged in image.judged.items() if suite != "mmvp-world")
    assert "mmvp-world" not in image.suites
    assert len(image.suites) == 6


def test_ranks_cover_the_field_at_every_seed(image):
    for seed in SEEDS:
        found = [image.ranks[entry.method.name][seed] for entry in image.entries]
        assert sum(found) == pytest.approx(len(found) * (len(found) + 1) / 2)
    assert "centralized" not in image.ranks
    assert image.ranked_seeds == (5, 5)


def test_a_seed_that_one_method_misses_counts_in_no_rank(tmp_path):
    def drop(content):
        return None if (content["method"], content["seed"]) == ("fedavg", 2) else content

    methods = ("fedavg", "shared-basis", "ties", "centralized")
    one = compare(write_study(tmp_path, methods=methods, scenarios=("image",), seeds=(1, 2), change=drop))
    assert one.ranks == {"shared-basis": {1: 1.0}, "fedavg": {1: 2.0}, "ties": {1: 3.0}}
    assert one.ranked_seeds == (1, 1)


def test_without_a_centralized_run_another_scenarios_is_asked(tmp_path):
    def drop(content):
        return None if (content["method"], content["scenario"]) == ("centralized", "text") else content

    folder = write_study(tmp_path, methods=("fedavg", "centralized"), scenarios=("text", "image"), change=drop)
    assert {judged.scenario for judged in compare(folder, "text").judged.values()} == {"Image clusters"}


def test_without_noise_or_references_no_suite_is_judged(tmp_path):
    folder = write_study(tmp_path, methods=("fedavg", "centralized"), scenarios=("image",))
    content = blind_content()
    del content["suites"]["pope-world"]["noise"]
    write_json(folder / "references" / "blind.json", content)
    one = compare(folder)
    assert "pope-world" not in one.judged
    assert "pope-world" in one.suites
    (folder / "references" / "blind.json").unlink()
    assert compare(folder).judged == {}
    assert len(compare(folder).suites) == 7


def test_a_diverged_method_comes_last_and_has_no_mean(tmp_path):
    def diverge(content):
        if (content["method"], content["seed"]) == ("shared-basis", 3):
            content["final"]["caption_loss"] = float("inf")
        return content

    one = compare(write_study(tmp_path, methods=("fedavg", "shared-basis"), scenarios=("image",), change=diverge))
    assert [entry.method.name for entry in one.entries] == ["fedavg", "shared-basis"]
    assert not one.estimate(one.named("shared-basis"), "caption_loss").finite
    assert one.winner.method.name == "fedavg"
    assert one.p_values == {"shared-basis": None}


def test_arms_are_compared_among_themselves(results):
    study = results.study
    one = arms_comparison(study, study.scenarios["image"], "3")
    assert one.entries[0].method.name == "arm-rwf"
    assert len(one.entries) == 4
    assert one.references == ()
    assert one.estimate(one.named("arm-all"), "caption_loss").mean == pytest.approx(
        0.7 + statistics.fmean(WIGGLE.values())
    )


def test_scenarios_without_runs_are_left_out_and_the_papers_come_first(tmp_path, results):
    assert [one.scenario.name for one in results.comparisons] == ["image", "text", "iid", "image-20"]
    folder = write_study(tmp_path, methods=("fedavg",), scenarios=("iid", "text"), change=lambda content: None)
    assert Results.of(load_study(folder)).comparisons == ()
