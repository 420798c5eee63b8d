"""Where every pair of a run's collections went, as its records have it (`runs.records.PairsRead`).

read = train + held_out + refused + unused
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedcmp.data.accounts import account_of
from fedcmp.data.features import FeatureSource, OnTheFlyFeatures
from fedcmp.data.quality import Rejected
from fedcmp.data.store import FeatureStore
from fedcmp.preparation.sources import Collection


def pairs_lines(
    opened: Sequence[tuple[Collection, FeatureSource]],
    train: Sequence[int],
    held_out: Sequence[int],
    *,
    judged: int,
    cut: Mapping[int, int],
    rest: str,
) -> list[dict[str, Any]]:
    """Return one "pairs" record per collection.

    Args:
        opened: the collections with their features.
        train: the number of the collection of each pair that is trained on.
        held_out: that of each held-out pair, in the order in which they are judged.
        judged: how many of them are, at the most.
        cut: collection -> captions that were cut.
        rest: why usable pairs are neither trained on nor held out, where there are such.
    """
    trained, held, scored = Counter(train), Counter(held_out), Counter(held_out[:judged])
    lines = []
    for number, (collection, features) in enumerate(opened):
        account = account_of(collection.source, _bad(features))
        left = account.usable - trained[number] - held[number]
        unused = dict(account.unused) | ({rest: left} if left > 0 else {})
        lines.append(
            {
                "kind": "pairs",
                "name": collection.name,
                "read": account.read,
                "train": trained[number],
                "held_out": held[number],
                "judged": scored[number],
                "refused": dict(account.refused),
                "unused": unused,
                "ignored": dict(account.ignored),
                "captions_cut": cut.get(number, 0),
            }
        )
    return lines


def _bad(features: FeatureSource) -> Sequence[Rejected]:
    """Pairs whose images are known to be unusable: all of a store's; of those read in passing, the ones met so far."""
    if isinstance(features, FeatureStore):
        return features.bad
    return list(features.bad.values()) if isinstance(features, OnTheFlyFeatures) else ()
