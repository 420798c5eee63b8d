"""Caption loss on held-out pairs, in all and by group (a content family of the world, a client of one's own data)."""

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray

from fedcmp.data.prepared import PreparedPairs
from fedcmp.model.vlm import VLM

GroupSums = dict[str, tuple[float, int]]


@torch.no_grad()
def caption_sums(
    vlm: VLM, pairs: PreparedPairs, positions: NDArray[np.int64], *, blind: bool = False, batch_size: int = 64
) -> GroupSums:
    """Summed loss and number of tokens of each group.

    Args:
        vlm: the model.
        pairs: the evaluation pairs.
        positions: which of them.
        blind: without the picture.
        batch_size: pairs a pass.

    Returns:
        group -> (sum of -log p in nats, tokens); sums, so that parts scored apart can be put together.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    ordered = positions[np.argsort(pairs.tokens.lengths[positions], kind="stable")]  # like lengths: little padding
    for start in range(0, len(ordered), batch_size):
        some = ordered[start : start + batch_size]
        batch = pairs.batch(some)
        losses = vlm.caption_losses(None if blind else batch.features, batch.ids, batch.lengths).double().cpu()
        for position, own in zip(some.tolist(), losses.split(batch.lengths.tolist()), strict=True):
            total = sums[pairs.groups[position]]
            total[0] += float(own.sum())
            total[1] += len(own)
    return {group: (loss, int(tokens)) for group, (loss, tokens) in sums.items()}


def merge_sums(parts: list[GroupSums]) -> GroupSums:
    """Sums of parts scored apart."""
    groups = sorted({group for part in parts for group in part})
    empty = (0.0, 0)
    return {g: (sum(p.get(g, empty)[0] for p in parts), sum(p.get(g, empty)[1] for p in parts)) for g in groups}


def caption_metrics(sums: GroupSums) -> dict[str, object]:
    """Mean loss a token over all pairs, the worst group, and every group's own."""
    groups = {group: loss / tokens for group, (loss, tokens) in sums.items()}
    worst = max(groups, key=lambda group: groups[group])
    total = sum(loss for loss, _ in sums.values()) / sum(tokens for _, tokens in sums.values())
    return {
        "caption_loss": total,
        "worst_group": worst,
        "worst_group_loss": groups[worst],
        "group_losses": groups,
    }
