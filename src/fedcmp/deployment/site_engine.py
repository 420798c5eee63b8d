"""What a site's trainer does with its model and its pairs: prepare them, carry out assignments, judge."""

import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedcmp.config import Recipe
from fedcmp.deployment.refusals import Declined
from fedcmp.errors import UserError
from fedcmp.evaluation.captions import caption_sums, score_captions
from fedcmp.federation.client_folder import ClientFolder
from fedcmp.federation.learner import ClientSide, Work
from fedcmp.model.language import LanguageModel
from fedcmp.model.locations import fingerprint
from fedcmp.model.vlm import VLM
from fedcmp.planning.preflight import plan_run
from fedcmp.preparation.batches import Batches
from fedcmp.preparation.loading import Prepared, load_encoder, new_trainable
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.setup_file import SETUP, read_setup
from fedcmp.preparation.sources import Progress, cache_folder
from fedcmp.version import __version__
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors
from fedcmp.wire.payload import decode
from fedcmp.wire.site_messages import Admission, Holding, Judged, PairsAccount

_LOG = logging.getLogger(__name__)
_PAIRS = ("read", "train", "held_out", "judged", "refused", "unused", "ignored", "captions_cut")


def prepare_site(
    recipe: Recipe,
    folder: Path,
    progress: Progress,
    *,
    first_position: int = 0,
    most_memory: int | None = None,
    most_disk: int | None = None,
) -> Prepared:
    """Prepare the site's pairs; what is in the cache already is not computed again.

    Args:
        recipe: the site's (site_recipe.py).
        folder: for what is prepared.
        progress: called while it works; may raise to stop.
        first_position: how many usable pairs the clients before this one hold.
        most_memory: bytes of main memory that the site may take; None: what the machine has.
        most_disk: bytes that features may take on top of what is there; None: what the disk has.

    Raises:
        Declined: more memory or disk is needed than there is.
        UserError: unusable pairs or models.
    """
    plan = plan_run(recipe, insist=True, progress=progress, most_memory=most_memory, most_disk=most_disk)
    if plan.misfits:
        own = str(cache_folder(recipe).parent)  # its name stays at the site
        raise Declined(f"more than the site allows or has: {plan.misfits[0].replace(own, 'its folder')}")
    _drop_damaged(folder)
    return prepare(recipe, folder, progress, first_position=first_position)


def _drop_damaged(folder: Path) -> None:
    """Remove what was prepared if it is not what was written: it follows from the pairs and is made again."""
    if not (folder / SETUP).exists():
        return
    try:
        read_setup(folder)
    except UserError:
        _LOG.warning("%s: damaged; the pairs are prepared again", folder)
        shutil.rmtree(folder)


def admission(recipe: Recipe, data: Prepared, language: LanguageModel) -> Admission:
    """Return what a site says of itself once its pairs are prepared; hashes of weights, types and text format."""
    return Admission(
        release=__version__,
        usable=len(data.train.rows),
        vision_width=data.vision_width,
        text_width=language.width,
        vision=load_encoder(recipe).fingerprint(),
        language=fingerprint(
            language.model.state_dict(),
            language.start_ids,
            language.separator_ids,
            language.prompt_ids(""),
            language.end,
            language.tokenizer.get_vocab(),
        ),
    )


def holding(data: Prepared) -> Holding:
    """Return what a site holds as a client, counts only."""
    line = data.data_lines[0]
    accounts = [PairsAccount(**{key: account[key] for key in _PAIRS}) for account in data.pairs_lines]
    return Holding(
        train=int(line["num_pairs"]),
        groups=line["groups"],
        bad_pairs=line["bad_pairs"],
        missing_pairs=int(line.get("missing_pairs", 0)),
        pairs=accounts,
    )


class SiteEngine:
    """The frozen parts and the pairs of one run, loaded once.

    Args:
        recipe: the site's.
        data: what `prepare_site` returned.
        language: the recipe's frozen LLM.
        first_position: as there.
        on_step: called after every optimiser step and between batches of judging; may raise to stop.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Prepared,
        language: LanguageModel,
        *,
        first_position: int,
        on_step: Callable[[], None],
    ) -> None:
        self.recipe, self.data = recipe, data
        self._vlm = VLM(language, new_trainable(recipe, self.data.vision_width, language.width))
        self._batches = Batches(recipe, self.data, first_position)
        self._on_step = on_step
        self._client_side = ClientSide(
            recipe, self._vlm, self.data.train, lambda _client: self._batches(0), swapped={}, on_step=on_step
        )

    def steps(self, round_number: int) -> int:
        """Return how many optimiser steps a round's part takes."""
        return len(self._batches(0)[round_number - 1])

    def train(self, client: int, assignment: Assignment, folder: Path) -> Reply:
        """Carry out one assignment.

        Args:
            client: the number that the server gave this site.
            assignment: the work.
            folder: what the client keeps.

        Raises:
            Declined: its tensors are not those of this run's trainable.
            UserError: the client's state is missing.
        """
        try:
            self._check_tensors(decode(assignment.state))
            (reply,) = self._client_side.carry_out([Work(client, assignment, ClientFolder(folder))])
        except ValueError as error:
            raise Declined(f"round {assignment.round}: the assignment cannot be carried out: {error}") from error
        return reply

    def judge(self, state: Tensors, *, blind: bool) -> Judged:
        """Score the held-out captions, and return sums of their losses by group.

        Raises:
            Declined: the tensors are not those of this run's trainable, or their losses are not finite.
            UserError: no held-out image can be read.
        """
        begun = time.perf_counter()
        if not blind:
            try:
                self._check_tensors(state)
            except ValueError as error:
                raise Declined(f"the tensors to be judged: {error}") from error
            self._vlm.trainable.load_state_dict(state)
        self._vlm.trainable.eval()
        pairs = self.data.evaluation
        count = min(len(pairs), self.recipe.evaluation.captions)
        scored = []
        for start in range(0, count, 256):
            self._on_step()
            positions = np.arange(start, min(start + 256, count))
            scored += score_captions(self._vlm, pairs, positions, blind=blind)
        sums = caption_sums(scored, pairs.groups)
        if not sums:
            raise UserError("no image of the held-out pairs can be read: check the images")
        if not all(math.isfinite(loss) for loss, _ in sums.values()):
            raise Declined("the losses on held-out pairs are not finite")
        return Judged(
            losses={group: loss for group, (loss, _) in sums.items()},
            tokens={group: tokens for group, (_, tokens) in sums.items()},
            captions=len(scored),
            seconds=time.perf_counter() - begun,
        )

    def _check_tensors(self, state: Tensors) -> None:
        own = self._vlm.trainable.state_dict()
        if state.keys() != own.keys():
            raise ValueError(f"they are {', '.join(sorted(state)) or 'none'}; they must be {', '.join(own)}")
        for name, tensor in state.items():
            if tensor.shape != own[name].shape or not tensor.is_floating_point():
                raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}; it must be {tuple(own[name].shape)}")
