import pytest
import torch
from safetensors.torch import load
from transformers import AutoTokenizer

from fedcmp.errors import UserError
from fedcmp.evaluation.questions import continuation
from fedcmp.evaluation.suites.prepared import open_suites, prepare_suites
from fedcmp.model.text_format import TextFormat
from tests.evaluation.suites.shared import built


class Encoder:
    """Mean colours of the nine cells; counts how many pictures it was given."""

    def __init__(self, name="a"):
        self.name, self.seen = name, 0

    def encode(self, images):
        self.seen += len(images)
        pixels = torch.stack([torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image in images])
        cells = pixels.float().view(-1, 3, 16, 3, 16, 3).mean((2, 4))
        return cells.reshape(len(images), 9, 3) / 255

    def fingerprint(self):
        return self.name


@pytest.fixture(scope="module")
def text():
    return TextFormat("world")


def test_features_are_computed_once_and_belong_to_the_pictures(tmp_path, text):
    encoder = Encoder()
    told = []
    suites = prepare_suites(
        "validation",
        encoder,
        text,
        tmp_path,
        names=["pope-world", "mmvp-world"],
        progress=lambda *what: told.append(what),
    )
    assert told == [("preparing suites", 1, 2), ("preparing suites", 2, 2)]
    _, images = built("mmvp-world", "validation")
    assert encoder.seen == len(images) + len(suites["pope-world"].features)
    expected = torch.from_numpy(images).float().view(-1, 3, 16, 3, 16, 3).mean((2, 4)).reshape(len(images), 9, 3) / 255
    assert suites["mmvp-world"].features.dtype == torch.float16
    torch.testing.assert_close(suites["mmvp-world"].features.float(), expected, atol=1e-3, rtol=0)

    again = prepare_suites("validation", encoder, text, tmp_path, names=["mmvp-world"])
    opened = open_suites("validation", "a", text, tmp_path, names=["mmvp-world"])
    assert encoder.seen == len(images) + len(suites["pope-world"].features)
    assert torch.equal(again["mmvp-world"].features, opened["mmvp-world"].features)
    with pytest.raises(KeyError, match=r"no suite 'mme-world' was prepared: mmvp-world"):
        opened["mme-world"]


def test_another_encoder_or_type_has_features_of_its_own(tmp_path, text):
    prepare_suites("validation", Encoder(), text, tmp_path, names=["mmvp-world"])
    for other in (Encoder("b"), Encoder()):
        dtype = "float16" if other.name == "b" else "float32"
        prepare_suites("validation", other, text, tmp_path, names=["mmvp-world"], feature_dtype=dtype)
        assert other.seen
    assert len(list((tmp_path / "suites").iterdir())) == 3


def test_features_that_are_missing_or_damaged_are_told_or_computed_again(tmp_path, text):
    with pytest.raises(
        UserError, match="no features of suite mmvp-world here, or damaged ones: prepare the suites first"
    ):
        open_suites("validation", "a", text, tmp_path, names=["mmvp-world"])
    prepare_suites("validation", Encoder(), text, tmp_path, names=["mmvp-world"])
    (path,) = (tmp_path / "suites").iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for torn in (whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(torn)
        with pytest.raises(UserError, match="damaged"):
            open_suites("validation", "a", text, tmp_path, names=["mmvp-world"])
        prepare_suites("validation", Encoder(), text, tmp_path, names=["mmvp-world"])
        assert torch.equal(load(path.read_bytes())["features"], load(whole)["features"])


def test_items_are_token_ids(tmp_path, text):
    suite = prepare_suites("validation", Encoder(), text, tmp_path, names=["seed-world"])["seed-world"]
    unknown = text.tokenizer.unk_token_id
    for item, prompt, answer, options in zip(suite.items, suite.prompts, suite.answers, suite.options, strict=True):
        assert text.tokenizer.decode(prompt) == item.prompt
        assert text.tokenizer.decode(answer) == item.answer
        assert [text.tokenizer.decode(option) for option in options] == list(item.options)
        assert unknown not in [*prompt, *answer]


def test_answers_are_tokenised_as_a_model_writes_them(byte_level_llm):
    tokenizer = AutoTokenizer.from_pretrained(byte_level_llm)
    prompt, answer = continuation(tokenizer, "is the roof red ? answer :", "red roof")
    assert tokenizer.decode(answer) == " red roof"
    assert tokenizer.decode(prompt + answer) == "is the roof red ? answer : red roof"
    assert continuation(tokenizer, "", "red")[1] == tokenizer("red")["input_ids"]
    assert continuation(tokenizer, "is the roof", "") == (tokenizer("is the roof")["input_ids"], [])
