"""Numbers that are not finite in float16 are not blamed on the learning rate alone."""

import pytest

from fedcmp.errors import UserError
from fedcmp.planning.dtype import with_dtype

RATE = "fedavg, round 1: what was trained is not finite; lower the learning rate"


@pytest.mark.parametrize(
    ("error", "dtype", "hinted"),
    [
        (UserError(RATE), "float16", True),
        (UserError("client 0: linear_1.weight holds 3 NaN or infinite values"), "float16", True),
        (UserError(RATE), "bfloat16", False),
        (UserError("a.json: no such file"), "float16", False),
        (RuntimeError("not finite"), "float16", False),
    ],
)
def test_the_dtype_is_named(error, dtype, hinted):
    before = str(error)
    after = with_dtype(error, dtype)
    assert type(after) is type(error)
    assert str(after) == before + (
        '; or set model.dtype = "bfloat16": numbers above 65,504 overflow in float16' * hinted
    )
