"""The sums against figures worked out by hand."""

import pytest

from fedcmp.config.methods import choose
from fedcmp.data.feature_forms import store_bytes
from fedcmp.model.sizes import LanguageSize, VisionSize
from fedcmp.model.trainable import trainable_shapes
from fedcmp.planning import needs
from fedcmp.wire.payload import forms

CLIP_L = VisionSize(loaded=427_944_193, tower=290_907_136, patches=576, width=1024, inner=4096, heads=16)
VICUNA = LanguageSize(parameters=6_738_415_616, layers=32, width=4096, queries=4096, inner=11_008, vocabulary=32_000)


def test_a_tensors_bytes():
    assert needs.tensor_bytes((3, 5)) == 60
    assert needs.tensor_bytes((3, 5), "bfloat16") == 30
    assert needs.tensor_bytes((), "float64") == 8


def test_llavas_projector_has_21_million_parameters():
    mlp = trainable_shapes("mlp", 1024, 4096)
    assert needs.all_bytes(mlp) == 4 * (1024 * 4096 + 4096 + 4096 * 4096 + 4096) == 83_918_848
    assert needs.all_bytes(trainable_shapes("linear", 1024, 4096)) == 4 * (1024 * 4096 + 4096)


def test_the_feature_store_of_cc12m():
    """576 patches x 1024 in 2 bytes are 1.18 MB a picture."""
    assert store_bytes(1, 576, 1024, "float16") == 1_179_648 + 16
    assert store_bytes(10**6, 576, 1024, "float32") == 10**6 * (2_359_296 + 16)


def test_a_sample_of_llava_7b_keeps_two_and_a_half_gigabytes():
    block = 2 * 4 * 4096 + 2 * (4 * 4096 + 3 * 11_008)  # bytes a token: 131,584
    passing = 4 * (4096 + 11_008) * 4
    expected = 640 * (32 * block + passing) + 65 * 32_000 * 10
    assert needs.activation_bytes(VICUNA, tokens=640, captions=65, item=2) == expected
    assert 2.4e9 < expected < 2.9e9


def test_what_the_projector_keeps():
    assert needs.projector_activation_bytes(CLIP_L, 4096) == 576 * (2 * 1024 + 4 * 4096) * 4


LINEAR = {"linear_1.weight": (4, 3), "linear_1.bias": (4,)}  # 16 numbers


@pytest.mark.parametrize(
    ("method", "options", "down", "up"),
    [
        ("fedavg", {}, 64, 64),
        ("fedcmp", {}, 64, 64),
        ("fisher", {}, 64, 128),  # a second moment of every parameter
        ("scaffold", {}, 128, 128),  # control variates
        ("regmean", {}, 64, 64 + 64),  # Gram 4 x 4
        ("local-soap", {}, 64, 64),
        ("fedpm", {}, 64, 64 + 64),
        ("fedpac-soap", {}, 64 + 64 + 64 + 64, 64 + 4 + 64 + 64),  # direction, L and R 4 x 4; a sum of rates up
        ("fedmuon", {}, 64 + 48, 64 + 48),  # the weight's variate
        ("fedmuon-liu", {}, 64 + 64 + 48, 64 + 4 + 48),
        ("fedadamw", {}, 64 + 64 + 64 + 4, 64 + 4 + 64 + 4),
        ("shared-basis", {}, 64 + 64 + 4, 64 + 64 + 64),  # basis 4 x 4, stretch; second moments and Gram 4 x 4
    ],
)
def test_bytes_of_a_clients_round(method, options, down, up):
    assert needs.wire(choose(method, options=options), LINEAR) == needs.Wire(down, up)
    assert needs.Wire(down, up).of(5) == 5 * (down + up)


@pytest.mark.parametrize(
    ("payload", "broadcast", "down", "up"),
    [
        ("bfloat16", None, 32 + 64 + 4, 32 + 32 + 32),
        ("int8", None, 32 + 64 + 4, (12 + 4) + (4 + 4) + 32 + 32),  # a scale for the matrix, one for the bias
        ("int8", "int8", (12 + 4) + (4 + 4) + 64 + 4, (12 + 4) + (4 + 4) + 32 + 32),
    ],
)
def test_bytes_of_a_round_in_a_narrower_form(payload, broadcast, down, up):
    chosen = choose("shared-basis", options={})
    assert needs.wire(chosen, LINEAR, forms(payload, broadcast)) == needs.Wire(down, up)


def test_checkpoints_and_learners():
    assert needs.checkpoint_bytes(LINEAR, learners=5, canonical=False, apart=True) == 5 * 64
    assert needs.checkpoint_bytes(LINEAR, learners=1, canonical=False, apart=False) == 64 + 2 * 128
    assert needs.client_folder_bytes(LINEAR, kept=2) == 3 * 2 * 64  # of three rounds
    grams = 2 * 4 * 4 * 8
    assert needs.checkpoint_bytes(LINEAR, learners=1, canonical=True, apart=False) == 64 + 2 * 128 + grams
    assert needs.learner_bytes(LINEAR, canonical=True) == 10 * 64 + 3 * 64
