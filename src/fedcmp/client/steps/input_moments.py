"""A learner's running second moment of what its layers are fed, damped, for steps that divide by it.

    C <- decay C + (1 - decay) C_batch,   C~ = C / (1 - decay^t) + damping mean(diag C) I
C_batch = mean over a step's visual tokens of x x^T, x what the layer is fed and a one behind it for the bias, over all
ranks' samples.  Shapes: C learners, A of them active, I inputs (with the bias column).
"""

import torch
from torch import Tensor

from fedcmp.aggregation.options import require_number
from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.steps.base import Step


class InputMoments:
    """C of every layer and learner; lives for a round.

    Args:
        count: C, of learners.
        decay: in [0, 1).
        damping: share of the mean diagonal entry that is added to the diagonal, above 0.
    """

    def __init__(self, count: int, *, decay: float, damping: float) -> None:
        self._decay, self._damping = decay, damping
        self._moments: Stacked = {}
        self._seen_C = torch.zeros(count, dtype=torch.float64)

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Take a step's batch in, before its step."""
        grams, tokens_A = local.input_grams(batch)
        tokens_A, *summed = local.group.sums([tokens_A.cpu().double(), *grams.values()])
        learners_A = batch.learners_A
        self._seen_C[learners_A] += 1
        for name, gram_AII in zip(grams, summed, strict=True):
            if name not in self._moments:
                self._moments[name] = gram_AII.new_zeros(len(local.cohort), *gram_AII.shape[1:])
            mean_AII = gram_AII / tokens_A.clamp(min=1).view(-1, 1, 1).to(gram_AII)
            own = self._moments[name]
            own[learners_A] = self._decay * own[learners_A] + (1 - self._decay) * mean_AII

    def damped(self, name: str, learners: Tensor, *, bias: bool = True) -> Tensor:
        """Return C~ (A, I, I) of some learners' layer; without its last row and column if not `bias`."""
        own = self._moments[name][learners]
        correction_A = (1 - self._decay ** self._seen_C[learners]).clamp(min=1e-12)
        moment_AII = own / correction_A.view(-1, 1, 1).to(own)
        if not bias:
            moment_AII = moment_AII[:, :-1, :-1]
        mean_A = moment_AII.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=torch.finfo(own.dtype).tiny)
        identity = torch.eye(moment_AII.shape[-1], dtype=own.dtype, device=own.device)
        return moment_AII + (self._damping * mean_A).view(-1, 1, 1) * identity

    def all_damped(self) -> Stacked:
        """Return weight's name -> C~ (C, I, I) of all learners."""
        everyone = torch.arange(len(self._seen_C))
        return {name: self.damped(name, everyone) for name in self._moments}

    def part_state(self) -> Stacked:
        """Moments and counts."""
        return {f"moment.{name}": tensor for name, tensor in self._moments.items()} | {"seen": self._seen_C}

    def load_part_state(self, saved: dict[str, Tensor]) -> None:
        """Take them up."""
        self._seen_C = saved["seen"].cpu()
        self._moments = {name.removeprefix("moment."): own for name, own in saved.items() if name != "seen"}


class SeesInputs(Step):
    """Base of the steps that divide by C~.

    Args:
        damping: share of C's mean diagonal entry that is added to its diagonal, above 0.
        decay: of the running C, in [0, 1).
    """

    def __init__(self, *, damping: float, decay: float) -> None:
        require_number("damping", damping, 0, 1e6, above=True)
        require_number("decay", decay, 0, 0.9999)
        self._damping, self._decay = damping, decay
        self._known: InputMoments | None = None

    @property
    def moments(self) -> InputMoments:
        """The round's, after `see`."""
        assert self._known is not None
        return self._known

    def see(self, local: LocalRound) -> InputMoments:
        """Begin a round."""
        self._known = InputMoments(len(local.cohort), decay=self._decay, damping=self._damping)
        return self._known

    def observe(self, local: LocalRound, batch: JointBatch) -> None:
        """Take in what the layers are fed."""
        self.moments.observe(local, batch)

    def part_state(self) -> Stacked:
        """The running second moments."""
        return self.moments.part_state()

    def load_part_state(self, saved: dict[str, Tensor]) -> None:
        """Take them up."""
        self.moments.load_part_state(saved)


def divided(matrix_AOI: Tensor, moment_AII: Tensor) -> Tensor:
    """Return B C~^-1 for symmetric positive definite C~; NaN where that is none, as of a learner that has diverged."""
    factor_AII, failed_A = torch.linalg.cholesky_ex(moment_AII.double())
    divided_AOI = torch.cholesky_solve(matrix_AOI.double().mT, factor_AII).mT
    return torch.where(failed_A.view(-1, 1, 1) == 0, divided_AOI, torch.nan).to(matrix_AOI)
