"""No two collections, models or ways to embed mix in one folder."""

import json

import pytest

from fedcmp.errors import UserError
from fedcmp.scenarios.embeddings.collection import embed_collection
from fedcmp.scenarios.embeddings.folder import INDEX
from fedcmp.scenarios.embeddings.inputs import begun_shard_size
from fedcmp.scenarios.embeddings.pair_files import find_pairs
from tests.data.helpers import write_llava
from tests.model.dual_encoders import siglip2_folder
from tests.scenarios.noise_pairs import OPTIONS, files, noise_pairs


def test_a_folder_holds_one_model_and_one_collection(tmp_path):
    pairs = noise_pairs(tmp_path / "source")
    (tmp_path / "model").mkdir()
    other_model = str(siglip2_folder(tmp_path / "model"))
    other_pairs = find_pairs([tmp_path / "source" / "pairs.json"], images=tmp_path / "source")
    embed_collection(other_pairs, "world", tmp_path / "emb", **OPTIONS)
    embed_collection(pairs, "world", tmp_path / "emb", **OPTIONS)  # the same pairs, named otherwise
    before = files(tmp_path / "emb")
    assert json.loads(before[INDEX])["source"]["images"] is None

    def refused(message, model="world", collection=pairs, **options):
        with pytest.raises(UserError, match=message) as caught:
            embed_collection(collection, model, tmp_path / "emb", **OPTIONS | options)
        assert str(caught.value).startswith(f"{tmp_path / 'emb'}: holds embeddings")
        assert "--out" in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(rf"by the model 'world', not '{other_model}'", model=other_model)
    refused(r"in float32, not bfloat16 \(--dtype\)", dtype="bfloat16")
    refused(r"in shards of 8 pairs, not 9 \(--shard-size\)", shard_size=9)
    refused("with max_pixels = 89478485, not 5", max_pixels=5)
    write_llava(tmp_path / "source", [{"image": "0.png", "caption": "a photo"}])
    refused(r"of other pairs \(pairs\.json\) than pairs\.json holds now")
    assert files(tmp_path / "emb") == before
    (tmp_path / "emb" / "inputs.json").unlink()
    refused(r"but no inputs\.json that says of what")


@pytest.mark.parametrize("content", ["", "[]", "\xff{"])
def test_a_damaged_file_of_inputs_is_named(tmp_path, content):
    assert begun_shard_size(tmp_path) is None
    (tmp_path / "inputs.json").write_text(content, "latin-1")
    with pytest.raises(UserError, match=r"inputs\.json: .*: give a new folder with --out") as caught:
        begun_shard_size(tmp_path)
    assert "\n" not in str(caught.value)
