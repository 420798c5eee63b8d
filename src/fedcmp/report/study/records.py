"""Records of a study as the report reads them: fedcmp.runs.study_records."""

from fedcmp.runs.study_records import (
    ABLATION,
    SUITE_KEYS,
    Arm,
    Blind,
    ScenarioFacts,
    StudyMethod,
    StudyRun,
    StudyScenario,
    Tuning,
)

Holding = ScenarioFacts
__all__ = ["ABLATION", "SUITE_KEYS", "Arm", "Blind", "Holding", "StudyMethod", "StudyRun", "StudyScenario", "Tuning"]
