"""Records as the report reads them: fedcmp.runs.records."""

from fedcmp.runs.records import SPLITS, ClientData, ClientRound, Evaluation, Sample, number, numbers, text, whole
from fedcmp.runs.records import say_split as say_split

Holding = ClientData
__all__ = [
    "SPLITS",
    "ClientRound",
    "Evaluation",
    "Holding",
    "Sample",
    "number",
    "numbers",
    "say_split",
    "text",
    "whole",
]
