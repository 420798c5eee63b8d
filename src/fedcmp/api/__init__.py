"""Use fedcmp from Python: train a recipe, open a run, look at it, take the model along.

Nothing heavy is imported until it is needed: each function loads its libraries when it is called.
"""

from fedcmp.api.run import Run, load
from fedcmp.api.table import ResultTable
from fedcmp.api.training import train

__all__ = ["ResultTable", "Run", "load", "train"]
