"""Server rules: many clients' tensors in, one set of them out. Tensor maths only; docs/methods.md has the formulas.

from fedcmp.aggregation import ClientUpdate, create

aggregator = create("fedcmp", rank=16, tail="average")
merged = aggregator.aggregate(global_state, [ClientUpdate(state, num_examples=1000, alignment_error=0.8), ...])
"""

from fedcmp.aggregation.base import Aggregator
from fedcmp.aggregation.dare import Dare
from fedcmp.aggregation.dare_ties import DareTies
from fedcmp.aggregation.diloco import DiLoCo
from fedcmp.aggregation.fedadam import FedAdam
from fedcmp.aggregation.fedavg import FedAvg
from fedcmp.aggregation.fedavgm import FedAvgM
from fedcmp.aggregation.fedcmp import FedCMP
from fedcmp.aggregation.fedswa import FedSWA
from fedcmp.aggregation.fedyogi import FedYogi
from fedcmp.aggregation.fisher import FISHER
from fedcmp.aggregation.iso_c import IsoC
from fedcmp.aggregation.knots_ties import KnotsTies
from fedcmp.aggregation.metagpt import MetaGPT
from fedcmp.aggregation.model_stock import ModelStock
from fedcmp.aggregation.registry import RuleRow, available, create, describe, register
from fedcmp.aggregation.regmean import RegMean
from fedcmp.aggregation.scaffold import Scaffold
from fedcmp.aggregation.served import serve
from fedcmp.aggregation.shared_basis import SharedBasis
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.svc import Svc
from fedcmp.aggregation.task_arithmetic import TaskArithmetic
from fedcmp.aggregation.ties import Ties
from fedcmp.aggregation.tsv import Tsv
from fedcmp.aggregation.update import ClientUpdate, Public
from fedcmp.aggregation.wudi import Wudi

__all__ = [
    "FISHER",
    "Aggregator",
    "ClientUpdate",
    "Dare",
    "DareTies",
    "DiLoCo",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedCMP",
    "FedSWA",
    "FedYogi",
    "IsoC",
    "KnotsTies",
    "MetaGPT",
    "ModelStock",
    "Public",
    "RegMean",
    "RuleRow",
    "Scaffold",
    "SharedBasis",
    "SumRule",
    "Svc",
    "TaskArithmetic",
    "Ties",
    "Tsv",
    "Wudi",
    "available",
    "create",
    "describe",
    "register",
    "serve",
]
