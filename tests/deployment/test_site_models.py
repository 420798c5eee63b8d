"""What a site keeps of what was trained."""

from pathlib import Path

import pytest
import torch

from fedcmp.config import parse_recipe
from fedcmp.deployment.site_models import keep_model
from fedcmp.errors import UserError
from fedcmp.finished.export import export_projector
from fedcmp.model.projector_files import read_projector
from fedcmp.preparation.loading import new_trainable
from fedcmp.wire.site_messages import Handover

RECIPE = parse_recipe({"data": {"num_pairs": 10}, "federation": {"rounds": 2}}, "test")


def handover(**changes: torch.Tensor) -> Handover:
    state = new_trainable(RECIPE, 128, 128).tensors() | changes
    return Handover("ab" * 8, 1, 1, 60.0, "fedavg", 2, state)


def test_a_kept_model_is_exported_as_any_run(tmp_path: Path) -> None:
    given = handover()
    folder = keep_model(RECIPE, given, tmp_path / "models", vision_width=128, text_width=128)
    out = export_projector(folder, tmp_path / "projector.safetensors")
    found = read_projector(out).tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in given.state.items())
    keep_model(RECIPE, given, tmp_path / "models", vision_width=128, text_width=128)  # handed over once more


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"linear_1.bias": torch.zeros(3)}, "linear_1.bias"),
        ({"linear_1.bias": torch.full((128,), torch.nan)}, "linear_1.bias"),
        ({"linear_1.bias": torch.zeros(128, dtype=torch.int64)}, "linear_1.bias"),
        ({"more": torch.zeros(3)}, "more"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path: Path, changes: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(UserError, match=said):
        keep_model(RECIPE, handover(**changes), tmp_path / "models", vision_width=128, text_width=128)
    assert not (tmp_path / "models").exists()
