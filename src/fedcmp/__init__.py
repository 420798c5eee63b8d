"""Train one multimodal LLM together: organisations train projectors on their own pairs, a server merges them.

    run = fedcmp.train("demo")               a recipe's file, a shipped recipe's name, or a dict
    run = fedcmp.load("runs/demo")           a run that is there
    run.table, run.report(), run.caption("cat.png"), run.export("exported")

Importing this package loads none of the heavy libraries; `fedcmp.aggregation` has the server rules alone.
"""

from fedcmp.api import ResultTable, Run, load, train
from fedcmp.errors import UserError
from fedcmp.version import __version__

__all__ = ["ResultTable", "Run", "UserError", "__version__", "load", "train"]
