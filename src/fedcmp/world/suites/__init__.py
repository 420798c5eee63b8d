"""Seven suites of the embedded world, small counterparts of the paper's benchmarks: pictures and items, frozen by hash.

docs/evaluation.md says of each what is its counterpart's and what differs; fedcmp.evaluation.suites scores them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedcmp.errors import UserError
from fedcmp.world.suites import llava_bench, mm_vet, mmbench, mme, mmvp, pope, seed
from fedcmp.world.suites.choosing import SEEDS
from fedcmp.world.suites.frozen import FROZEN
from fedcmp.world.suites.items import SuiteItems

# in the paper's order; a suite's place is its block of random integers
_BUILDERS: dict[str, Callable[[str, int], SuiteItems]] = {
    "mm-vet": mm_vet.build,
    "mmbench": mmbench.build,
    "seed": seed.build,
    "llava-bench": llava_bench.build,
    "pope": pope.build,
    "mme": mme.build,
    "mmvp": mmvp.build,
}
SUITES = tuple(_BUILDERS)


def build_suite(name: str, split: str) -> tuple[SuiteItems, NDArray[np.uint8]]:
    """A suite's items and its pictures, drawn and checked.

    Args:
        name: one of SUITES.
        split: "test" or "validation"; they share no scene.

    Returns:
        The items, and (n, 48, 48, 3) uint8 pictures.

    Raises:
        UserError: the items or pictures are not those that were frozen, hence scores could not be compared.
        ValueError: no such suite or split.
    """
    if name not in _BUILDERS or split not in SEEDS:
        raise ValueError(f"suite {name!r}, split {split!r}: choose of {', '.join(SUITES)}; {', '.join(SEEDS)}")
    suite = _BUILDERS[name](split, SUITES.index(name))
    images = suite.images()
    found, frozen = suite.digest(images), FROZEN[name, split]
    if found != frozen:
        raise UserError(
            f"suite {name}, {split}: its items are not the frozen ones ({found[:12]}, not {frozen[:12]}): scores would "
            "not be comparable with any other; reinstall fedcmp, and numpy as in constraints.txt"
        )
    return suite, images
