from fedcmp.errors import counted


def test_one_is_not_several():
    assert [counted(number, "pair") for number in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]
