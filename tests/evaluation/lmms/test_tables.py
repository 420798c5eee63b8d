import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.tables import read_json_rows, write_table

from .real_formats import picture


def test_pictures_are_marked_as_the_datasets_library_marks_them(tmp_path):
    rows = [{"index": i, "text": "a", "caption": ["x", "y"], "empty": None, "image": picture(i)} for i in range(3)]
    write_table(tmp_path / "t.parquet", rows)
    table = pq.read_table(tmp_path / "t.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["index"] == {"dtype": "int64", "_type": "Value"}
    assert features["caption"]["_type"] == "List"
    assert features["empty"] == {"dtype": "string", "_type": "Value"}
    stored = table.column("image")[2].as_py()
    assert Image.open(io.BytesIO(stored["bytes"])).size == (48, 48)
    assert stored["bytes"] == picture(2)


def test_several_pictures_a_row(tmp_path):
    write_table(tmp_path / "t.parquet", [{"image": [picture(0), picture(1)]}])
    table = pq.read_table(tmp_path / "t.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"feature": {"_type": "Image"}, "_type": "List"}
    assert [p["bytes"] for p in table.column("image")[0].as_py()] == [picture(0), picture(1)]


def test_json_records_bring_their_pictures(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(picture(0))
    (tmp_path / "test.jsonl").write_text('{"question": "?", "image": "images/0.png"}\n\n')
    assert read_json_rows(tmp_path / "test.jsonl") == [{"question": "?", "image": picture(0)}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image": "no.png"}', "no.png cannot be read"),
        ('{"image": 3}', 'record 1: "image" must be a path'),
        ('{"image": ["a.png", 3]}', 'record 1: "image" must be a path'),
        ("{", "not readable JSON"),
        ("", "must be a list of records"),
    ],
)
def test_a_mistake_in_json_is_one_line(tmp_path, text, said):
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        read_json_rows(tmp_path / "test.jsonl")
    assert "\n" not in str(error.value)
