import json
import shutil

import pytest

from fedcmp.report.study import Results, load_study

from .fakes import METHODS, add_arms, write_json, write_study


def test_ours_and_fedavg_are_featured_then_the_best_others(results):
    assert results.featured == ("shared-basis", "fedcmp", "fedavg", "diloco", "fedavgm", "ties")


def test_featured_methods_and_references_share_no_colour(results):
    slots = [results.palette.slots[name] for name in (*results.featured, "centralized", "local")]
    assert len(set(slots)) == len(slots)


def test_a_method_has_its_colour_before_it_has_run(tmp_path, results):
    def early(content):
        return content if content["method"] in ("fedavg", "shared-basis", "diloco", "fedavgm", "ties") else None

    begun = Results.of(load_study(write_study(tmp_path, scenarios=("image",), change=early)))
    assert set(begun.palette.slots) == set(METHODS)
    assert begun.palette.colour("shared-basis") == results.palette.colour("shared-basis")


def test_arms_have_no_colour_of_their_own(results):
    assert not any(name.startswith("arm") for name in results.palette.slots)
    assert not any(method.name.startswith("arm") for method in results.methods)


def test_ablations_come_by_table_with_at_least_two_arms(tmp_path, results):
    assert {table: [s.name for s, _ in found] for table, found in results.ablations.items()} == {
        "3": ["image"],
        "4": ["image"],
    }
    assert Results.of(load_study(write_study(tmp_path, scenarios=("image",), seeds=(1,)))).ablations == {}


@pytest.mark.parametrize(("ran", "shown"), [((), []), (("arm-csc",), ["3"]), (("arm-csc", "arm-gamma"), ["3"])])
def test_an_ablation_that_did_not_run_has_no_table(tmp_path, ran, shown):
    """FedAvg and our own method are arms too and always run: they alone are no ablation."""
    folder = write_study(tmp_path, methods=("fedavg", "shared-basis"), scenarios=("image",), seeds=(1, 2), extras=False)
    add_arms(folder, seeds=(1, 2))
    plan = json.loads((folder / "study.json").read_text())
    for name in ("fedavg", "shared-basis"):
        plan["methods"][name].update(table=["3"], arms={"3": {"CSC": name != "fedavg"}})
    write_json(folder / "study.json", plan)
    for name in ("arm-none", "arm-csc", "arm-rwf", "arm-all", "arm-gamma"):
        if name not in ran:
            shutil.rmtree(folder / "runs" / "image" / name)
    assert list(Results.of(load_study(folder)).ablations) == shown
