import json

import pytest
import torch

from fedcmp.evaluation.suites import SUITES, informative, prepare_suites, score_suite
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
        assert not informative(score.score, score.score, score.noise)


@pytest.mark.parametrize(("centralized", "expected"), [(60.0, True), (59.0, False), (20.0, False)])
def test_a_suite_is_informative_if_central_training_beats_the_blind_llm_by_three_standard_errors(centralized, expected):
    # 3 x sqrt(2) x 2.2 = 9.33
    assert informative(centralized, 50.0, 2.2) is expected
