import pytest

from fedcmp.config import dump_recipe, parse_recipe
from fedcmp.errors import UserError
from fedcmp.planning import dtype as planning_dtype
from fedcmp.planning.dtype import settle_dtype
from fedcmp.study.recipe import load_study


def recipe(dtype):
    return parse_recipe({"model": {"dtype": dtype}, "data": {"num_pairs": 60}, "training": {"batch_size": 2}}, "test")


def test_a_named_dtype_is_taken_without_a_probe(monkeypatch):
    monkeypatch.setattr(planning_dtype, "step_seconds", lambda *_: pytest.fail("probed"))
    assert settle_dtype(recipe("bfloat16"), None).model.dtype == "bfloat16"


@pytest.mark.parametrize(("times", "expected"), [((2.0, 1.0), "bfloat16"), ((1.0, 1.0), "float32")])
def test_a_new_run_takes_what_is_faster(monkeypatch, times, expected):
    seconds = iter(times)
    probed = []
    monkeypatch.setattr(
        planning_dtype, "step_seconds", lambda language, _size: probed.append(language.dtype) or next(seconds)
    )
    assert settle_dtype(recipe("auto"), None).model.dtype == expected
    assert [str(dtype) for dtype in probed] == ["torch.float32", "torch.bfloat16"]


def test_a_resumed_run_keeps_its_dtype(monkeypatch, tmp_path):
    monkeypatch.setattr(planning_dtype, "step_seconds", lambda *_: pytest.fail("probed"))
    begun = tmp_path / "recipe.toml"
    begun.write_text(dump_recipe(recipe("bfloat16")))
    assert settle_dtype(recipe("auto"), begun).model.dtype == "bfloat16"


def test_the_real_probe_names_a_dtype():
    assert settle_dtype(recipe("auto"), None).model.dtype in ("float32", "bfloat16")


def test_a_study_names_its_dtype(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'base.model.dtype = "auto"\nbase.data.num_pairs = 100\n'
        '[tuning]\nscenario = "iid"\nseed = 9\nrungs = [{ trials = 1, captions = 50 }]\n'
        '[scenario.iid]\ntitle = "IID"\nseeds = [1]\nrecipe.scenario.kind = "iid"\n'
        "[method.fedavg]\ntitle = 'FedAvg'\nlearning_rates = [0.01]\n"
    )
    with pytest.raises(UserError, match=r'model\.dtype = "auto"'):
        load_study(path)
