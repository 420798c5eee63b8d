"""The table of suites, small counterparts of the paper's benchmarks: how items are drawn, and the rule of the score.

One file per suite holds both. Items and pictures are frozen by hash (frozen.py); docs/evaluation.md says of each suite
what is its counterpart's and what differs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcmp.errors import UserError
from fedcmp.evaluation.suites import llava_bench, mm_vet, mmbench, mme, mmvp, pope, seed
from fedcmp.evaluation.suites.choosing import SEEDS
from fedcmp.evaluation.suites.frozen import FROZEN
from fedcmp.evaluation.suites.items import SuiteItems
from fedcmp.evaluation.suites.rules import Rule


@dataclass(frozen=True)
class Suite:
    """One row of the table.

    Attributes:
        build: draws the items of a split ("test" or "validation"), given the suite's number in the table.
        rule: from answers to a score.
    """

    build: Callable[[str, int], SuiteItems]
    rule: type[Rule]


# in the paper's order; a suite's place is its block of random integers
TABLE: dict[str, Suite] = {
    "mm-vet-world": Suite(mm_vet.build, mm_vet.MMVet),
    "mmbench-world": Suite(mmbench.build, mmbench.MMBench),
    "seed-world": Suite(seed.build, seed.Seed),
    "llava-bench-world": Suite(llava_bench.build, llava_bench.LLaVABench),
    "pope-world": Suite(pope.build, pope.Pope),
    "mme-world": Suite(mme.build, mme.Mme),
    "mmvp-world": Suite(mmvp.build, mmvp.Mmvp),
}
SUITES = tuple(TABLE)


def build_suite(name: str, split: str) -> tuple[SuiteItems, NDArray[np.uint8]]:
    """Draw a suite's items and its images, and check them against the frozen hash.

    Args:
        name: one of SUITES.
        split: "test" or "validation"; they share no scene.

    Returns:
        The items, and (n, 48, 48, 3) uint8 images.

    Raises:
        UserError: the items or images are not those that were frozen, hence scores could not be compared.
        ValueError: no such suite or split.
    """
    if name not in TABLE or split not in SEEDS:
        raise ValueError(f"suite {name!r}, split {split!r}: choose of {', '.join(SUITES)}; {', '.join(SEEDS)}")
    suite = TABLE[name].build(split, SUITES.index(name))
    images = suite.images()
    found, frozen = suite.digest(images), FROZEN[name, split]
    if found != frozen:
        raise UserError(
            f"suite {name}, {split}: its items are not the frozen ones ({found[:12]}, not {frozen[:12]}): scores would "
            "not be comparable with any other; reinstall fedcmp, and numpy as in constraints.txt"
        )
    return suite, images
