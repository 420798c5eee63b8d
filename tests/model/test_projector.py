import math

import pytest
import torch

from fedcmp.model.projector import Projector


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("initialisation", ["llava", "normal", "scaled"])
def test_the_same_seed_gives_the_same_projector(kind, initialisation):
    first, second, other = (
        Projector(6, 10, kind=kind, initialisation=initialisation, seed=seed).tensors() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["linear_1.weight"], other["linear_1.weight"])


def test_names_and_shapes_are_those_of_llava():
    from transformers import LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 12},
        text_config={"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2},
    )
    theirs = LlavaMultiModalProjector(config)
    ours = Projector(12, 16)
    theirs.load_state_dict(ours.tensors())
    features = torch.randn(2, 3, 12)
    torch.testing.assert_close(ours(features), theirs(features))


def test_llava_initialisation_is_that_of_nn_linear():
    projector = Projector(400, 300, initialisation="llava")
    torch.manual_seed(0)
    reference = torch.nn.Linear(400, 300)
    bound = 1 / math.sqrt(400)
    for ours, theirs in ((projector.linear_1.weight, reference.weight), (projector.linear_1.bias, reference.bias)):
        assert ours.abs().max() <= bound
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)


def test_other_initialisations():
    normal, scaled = (Projector(400, 300, initialisation=how) for how in ("normal", "scaled"))
    assert normal.linear_1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert scaled.linear_1.weight.std().item() == pytest.approx(1 / 20, rel=0.05)
    assert scaled.linear_2.weight.std().item() == pytest.approx(0.1 / math.sqrt(300), rel=0.05)
    assert not normal.linear_1.bias.any()


def test_tensors_are_copies():
    projector = Projector(4, 4)
    kept = projector.tensors()
    with torch.no_grad():
        projector.linear_1.weight.zero_()
    assert kept["linear_1.weight"].any()
