"""The seven suites: prepare_suites once, score_suite for each model; docs/evaluation.md says what each is."""

from fedcmp.evaluation.suites.prepared import PreparedSuite, Suites, open_suites, prepare_suites
from fedcmp.evaluation.suites.scoring import SuiteScore, score_answers, score_suite
from fedcmp.evaluation.suites.table import SUITES, build_suite

__all__ = [
    "SUITES",
    "PreparedSuite",
    "SuiteScore",
    "Suites",
    "build_suite",
    "open_suites",
    "prepare_suites",
    "score_answers",
    "score_suite",
]
