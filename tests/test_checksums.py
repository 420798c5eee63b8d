"""Checksums find what changed in a file, and leave files alone that have none."""

import json
import math

import pytest

from fedcmp.checksums import CHECKSUM, Damaged, check_toml, is_sealed, sealed, sealed_toml, unsealed

CONTENT = {"b": [1, 2.5e-7, None], "a": {"\u2028": "\ud83d", "2": True}, "large": 10**30, "nan": math.inf}


def test_an_object_comes_back_whatever_its_order_and_spaces():
    written = json.dumps(sealed(CONTENT), indent=3, sort_keys=True)
    assert unsealed(json.loads(written)) == CONTENT
    assert sealed(sealed(CONTENT)) == sealed(CONTENT)
    assert sealed({1: (2,)})[CHECKSUM] == sealed({"1": [2]})[CHECKSUM]


def test_every_flipped_bit_of_an_object_is_found_or_changes_nothing():
    written = json.dumps(sealed({"loss": 0.25, "name": "a"})).encode()
    for place in range(8 * len(written)):
        flipped = bytearray(written)
        flipped[place // 8] ^= 1 << place % 8
        try:
            content = json.loads(bytes(flipped))
            found = unsealed(content)
        except ValueError:
            continue
        assert not is_sealed(content)  # the flip hit the checksum's own name, ...
        assert {"loss": 0.25, "name": "a"}.items() <= found.items()  # ... and nothing else


def test_what_has_no_checksum_is_taken_as_it_is():
    for content in ({"a": 1}, [1], "text", None):
        assert unsealed(content) == content
        assert not is_sealed(content)


@pytest.mark.parametrize("text", ["", "a = 1", "[run]\nname = 'x'\n"])
def test_a_toml_text_is_checked_by_its_last_line(text):
    written = sealed_toml(text)
    assert written.startswith(text)
    check_toml(written)
    check_toml(text)
    with pytest.raises(Damaged, match="not what was written"):
        check_toml("b = 2\n" + written)
    above, _, digest = written.rpartition(" ")
    with pytest.raises(Damaged):
        check_toml(f"{above} {'0' if digest[0] != '0' else '1'}{digest[1:]}")
