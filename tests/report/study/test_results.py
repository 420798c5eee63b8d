from fedcmp.report.study import Results, load_study

from .fakes import METHODS, write_study


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
