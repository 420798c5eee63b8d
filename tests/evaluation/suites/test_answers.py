import dataclasses

import pytest
import torch

from fedcmp.evaluation.suites.answers import answer_suite
from fedcmp.evaluation.suites.prepared import Suites, prepare_suites
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vlm import VLM

NAMES = ("mm-vet-world", "seed-world", "mmvp-world")


class Encoder:
    """Stands for an encoder: features that differ from picture to picture."""

    def encode(self, images):
        pixels = torch.tensor([list(image.tobytes()[:1152:8]) for image in images], dtype=torch.float32)
        return pixels.view(-1, 9, 16) / 255

    def fingerprint(self):
        return "pixels"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    language = LanguageModel("world")
    suites = prepare_suites("validation", Encoder(), language, tmp_path_factory.mktemp("cache"), names=NAMES)
    return VLM(language, Projector(16, language.width, seed=3)), suites


def some(suites, name, places):
    """The same suite with a few of its items."""
    suite = suites[name]
    kept = {field: [getattr(suite, field)[i] for i in places] for field in ("items", "prompts", "answers", "options")}
    return Suites(suites.split, {name: dataclasses.replace(suite, **kept)}, suites.tokenizer)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_does_not_depend_on_its_neighbours(model, name):
    vlm, suites = model
    places = list(range(0, len(suites[name].items), 13))
    together = answer_suite(vlm, some(suites, name, places), name)
    alone = [answer_suite(vlm, some(suites, name, [place]), name)[0] for place in places]
    halves = answer_suite(vlm, some(suites, name, places), name, batch_size=3)
    assert together == alone == halves
    assert len(set(together)) > 1


def test_words_are_what_the_model_writes_first(model):
    vlm, suites = model
    few = some(suites, "mmvp-world", range(60, 66))
    suite = few["mmvp-world"]
    said = answer_suite(vlm, few, "mmvp-world")
    for item, prompt, text in zip(suite.items, suite.prompts, said, strict=True):
        visual = vlm.visual_tokens(suite.features[[item.picture]])
        assert item.how == "word"
        assert vlm.language.generate(visual, torch.tensor([prompt]), max_new_tokens=1) == [text]


def test_ranks_follow_the_sum_of_log_probabilities(model):
    """Options of one word and of two: each is written out and scored word by word."""
    vlm, suites = model
    places = [0, 1, 61, 185, 186, 239, 300]
    few = some(suites, "seed-world", places)
    suite = few["seed-world"]
    assert {len(option) for options in suite.options for option in options} == {1, 2}
    for item, prompt, options, said in zip(
        suite.items, suite.prompts, suite.options, answer_suite(vlm, few, "seed-world"), strict=True
    ):
        visual = vlm.visual_tokens(suite.features[[item.picture]])
        totals = []
        for option in options:
            before, total = list(prompt), 0.0
            for token in option:
                inputs = vlm.language.inputs(visual, torch.tensor([before]))
                with torch.no_grad():
                    logits = vlm.language.model(inputs_embeds=inputs).logits[0, -1]
                total += float(logits[token] - logits.exp().sum().log())
                before.append(token)
            totals.append(total)
        assert said == item.options[totals.index(max(totals))]


def test_the_blind_model_sees_no_picture(model):
    vlm, suites = model
    places = [i for i, item in enumerate(suites["mmvp-world"].items)][::9]
    few = some(suites, "mmvp-world", places)
    blank = Suites(
        "validation",
        {"mmvp-world": dataclasses.replace(few["mmvp-world"], features=few["mmvp-world"].features * 0)},
        None,
    )
    blank = dataclasses.replace(blank, tokenizer=suites.tokenizer)
    assert answer_suite(vlm, few, "mmvp-world", blind=True) == answer_suite(vlm, blank, "mmvp-world", blind=True)
    assert answer_suite(vlm, few, "mmvp-world") != answer_suite(vlm, blank, "mmvp-world")
