import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.environment import VARIABLE, child_variables, environment_recipe, probe


def test_the_recipe_pins_what_it_installs():
    recipe = environment_recipe()
    assert "lmms-eval==0.7.3" in recipe
    assert "torchvision==" in recipe
    assert "decord==" in recipe
    assert recipe.splitlines()[-1].startswith(f"export {VARIABLE}=")


def test_an_environment_is_probed_and_may_be_named_by_a_variable(fake, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(fake.python))
    found = probe(None)
    assert found.python == fake.python
    assert found.tasks == fake.tasks
    assert found.versions["lmms-eval"] == "0.7.3"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"origin": None}, "has no lmms-eval"),
        ({"broken": "operator torchvision::nms does not exist"}, "do not load .*nms"),
        ({"versions": {"lmms-eval": "0.7.3"}}, "has no decord"),
    ],
)
def test_an_environment_that_lacks_something_is_refused_with_the_mend(fake, change, said):
    fake.plan |= change
    fake.write()
    with pytest.raises(UserError, match=f"{said}.*--print-environment"):
        probe(fake.python)


def test_no_python_at_all(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match=f"set {VARIABLE}"):
        probe(None)
    with pytest.raises(UserError, match="cannot be started"):
        probe(tmp_path / "none")


def test_children_are_led_neither_to_a_hub_nor_to_our_packages(monkeypatch):
    names = {"PYTHONPATH", "HF_TOKEN", "OPENAI_API_KEY", "API_TYPE", "MODEL_VERSION"}
    for name in names:
        monkeypatch.setenv(name, "x")
    variables = child_variables()
    assert not names & variables.keys()
    assert variables["HF_HUB_OFFLINE"] == variables["HF_DATASETS_OFFLINE"] == "1"
