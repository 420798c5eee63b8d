"""Records with their places in bytes, from arrays and lines of any shape."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.data import json_records as module
from fedcmp.data.json_records import json_records
from fedcmp.errors import UserError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(values, max_size=12),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
)
def test_arrays_through_a_window_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[object],
    indent: object,
    ascii: bool,
    mark: bool,
    window: int,
) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    text = "\n " + json.dumps(records, indent=indent, ensure_ascii=ascii).encode("utf-8", "replace").decode() + "\n"
    data = text.encode("utf-8-sig" if mark else "utf-8")
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW_BYTES", window)
        found = list(json_records(path))
    assert [number for number, *_ in found] == list(range(len(records)))
    assert [record for *_, record in found] == json.loads(text)
    for _, offset, size, record in found:
        assert json.loads(data[offset : offset + size]) == record


@pytest.mark.parametrize(
    "text",
    ["[", "[1, 2", '[{"a": 1}, {"b": ', "[1 2]", "[1,]", "[,1]", "[1] x", '[{"a": "\\q"}]', "[" * 5000],
)
def test_a_torn_array_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "torn.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"torn\.json: not valid JSON in record \d+, near byte"):
        list(json_records(path))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes('[{"caption": "café"}]'.encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.json: not valid JSON"):
        list(json_records(path))


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    data = '\ufeff{"a": 1}\r\n\n{"b": "é"}\n{torn\n[1]\nnull\n"last"'.encode()
    path.write_bytes(data)
    found = list(json_records(path))
    assert [(number, record) for number, _, _, record in found] == [
        (0, {"a": 1}),
        (2, {"b": "é"}),
        (3, None),
        (4, [1]),
        (5, None),
        (6, "last"),
    ]
    assert json.loads(data[found[1][1] : found[1][1] + found[1][2]]) == {"b": "é"}


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_bytes(b"")
    assert list(json_records(path)) == []
