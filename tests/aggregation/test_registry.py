"""The table of methods."""

import pytest

from fedcmp.aggregation import Aggregator, FedAvg, FedCMP, available, create, describe, register
from fedcmp.aggregation.fedcmp import PUBLISHED


def test_lists_methods_with_rows():
    assert {"fedavg", "shared-basis", "fedcmp"} <= set(available())
    assert available() == sorted(available())
    for name in available():
        row = describe(name)
        assert row.name == name
        assert row.summary
        assert row.paper
        assert isinstance(create(name), Aggregator)


def test_presets_are_the_class_with_their_defaults():
    signature = describe("fedcmp").options()
    assert signature["parameter_damping"] == 0.01
    assert {name: signature[name] for name in PUBLISHED} == PUBLISHED
    assert FedCMP.__init__.__kwdefaults__ == signature  # the class alone is the published rule


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fedcmb", {}, r"unknown method 'fedcmb'; did you mean 'fedcmp'\? available: .*fedavg.*fedcmp"),
        ("nothing-like-it", {}, r"unknown method 'nothing-like-it'; available: "),
        (
            "fisher",
            {"gama": 1},
            r"method 'fisher' has no option 'gama'; did you mean 'gamma'\? it takes: gamma, magn",
        ),
        ("fedavg", {"density": 1}, r"method 'fedavg' has no option 'density'; it takes no options"),
        ("fisher", {"gamma": "1"}, r"gamma = '1': must be a number"),
    ],
)
def test_mistakes_are_named_with_the_mend(name, options, message):
    with pytest.raises(ValueError, match=message):
        create(name, **options)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'fedavg' is registered twice"):
        register("fedavg", summary="again", paper="none")(FedAvg)
