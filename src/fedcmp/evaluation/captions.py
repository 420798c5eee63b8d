"""Caption loss on held-out pairs, in all and by group (a content family of the world, a client of one's own data)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedcmp.data.prepared import PreparedPairs
from fedcmp.errors import UserError
from fedcmp.model.vlm import VLM

GroupSums = dict[str, tuple[float, int]]
Scored = list[tuple[int, float, int]]  # position, summed loss and tokens of each caption


@torch.no_grad()
def score_captions(
    vlm: VLM,
    pairs: PreparedPairs,
    positions: NDArray[np.int64],
    *,
    blind: bool = False,
    images: NDArray[np.int64] | None = None,
    batch_size: int = 64,
) -> Scored:
    """Score held-out captions one by one.

    Args:
        vlm: the model.
        pairs: the evaluation pairs.
        positions: which of them.
        blind: without the image.
        images: (N,) the pair whose image each of all N pairs gets (`shuffled.derangement`); None: its own.
        batch_size: pairs per pass.

    Returns:
        (position, sum of -log p in nats, tokens) per caption, short captions first. Pairs whose image turns out bad are
        left out, without the image too: all models are scored on the same captions.
    """
    scored: Scored = []
    ordered = positions[np.argsort(pairs.tokens.lengths[positions], kind="stable")]  # like lengths: little padding
    for start in range(0, len(ordered), batch_size):
        batch = pairs.batch(ordered[start : start + batch_size], images=images)
        if not len(batch.positions):
            continue
        losses = vlm.caption_losses(None if blind else batch.features, batch.ids, batch.lengths).double().cpu()
        for position, own in zip(batch.positions.tolist(), losses.split(batch.lengths.tolist()), strict=True):
            scored.append((position, float(own.sum()), len(own)))
    return scored


def caption_sums(scored: Scored, groups: Sequence[str]) -> GroupSums:
    """Sum losses and tokens by group, in the order of the captions; sums of parts scored apart can be put together."""
    sums: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for position, loss, tokens in scored:
        total, count = sums[groups[position]]
        sums[groups[position]] = total + loss, count + tokens
    return dict(sums)


def merge_sums(parts: list[GroupSums]) -> GroupSums:
    """Put the sums of parts together that were scored apart."""
    groups = sorted({group for part in parts for group in part})
    empty = (0.0, 0)
    return {g: (sum(p.get(g, empty)[0] for p in parts), sum(p.get(g, empty)[1] for p in parts)) for g in groups}


def loss_of_mix(losses: Mapping[str, float], counts: Mapping[str, int]) -> float | None:
    """Return the mean of groups' losses, weighted by how many pairs of each group somebody holds.

    With common held-out pairs, this is a client's loss on pairs like its own: L_k = sum_g n_kg L_g / sum_g n_kg.

    Args:
        losses: group -> mean loss per token on held-out pairs.
        counts: group -> pairs; groups that none of the held-out pairs belong to are left out.

    Returns:
        Nats per token; None where no group has both.
    """
    judged = {group: count for group, count in counts.items() if group in losses and count > 0}
    total = sum(judged.values())
    return sum(count * losses[group] for group, count in judged.items()) / total if total else None


def caption_metrics(sums: GroupSums) -> dict[str, object]:
    """Return the mean loss per token over all pairs, the worst group, and every group's own.

    Raises:
        UserError: there is no caption.
    """
    if not sums:
        raise UserError("no image of the held-out pairs can be read: check the images, or hold out other pairs")
    groups = {group: loss / tokens for group, (loss, tokens) in sums.items()}
    worst = max(groups, key=lambda group: groups[group])
    total = sum(loss for loss, _ in sums.values()) / sum(tokens for _, tokens in sums.values())
    return {
        "caption_loss": total,
        "worst_group": worst,
        "worst_group_loss": groups[worst],
        "group_losses": groups,
    }
