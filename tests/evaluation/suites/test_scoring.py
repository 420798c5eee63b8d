import json

import torch

from fedcmp.evaluation.suites import SUITES, prepare_suites, score_suite
from fedcmp.evaluation.suites.table import TABLE
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vlm import VLM


class Encoder:
    """Stands for an encoder."""

    def encode(self, images):
        return torch.zeros(len(images), 9, 4)

    def fingerprint(self):
        return "nothing"


def test_the_blind_llm_gets_no_more_than_chance(tmp_path):
    """A suite that can be answered without its pictures would measure the LLM, not the projector."""
    language = LanguageModel("world")
    vlm = VLM(language, Projector(4, language.width))
    suites = prepare_suites("validation", Encoder(), language, tmp_path)
    for name in SUITES:
        score = score_suite(vlm, suites, name, blind=True)
        assert score.score < score.chance + 3 * score.noise + 1e-9, name
        assert json.loads(json.dumps(score.record()))["suite"] == name


def test_every_suite_has_a_rule():
    assert tuple(TABLE) == SUITES
