"""What is known of a round: by one client alone (its update), and by everybody (what the server broadcasts)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)  # eq: tensors have no single truth value
class ClientUpdate:
    """What one client's local round has come to.

    Attributes:
        state: tensor name -> the client's trained tensors after training (not the difference), any floating dtype.
        num_examples: samples that it trained on in this round, at least 1.
        alignment_error: E_k in [0, 2], mean over its samples of 1 - cos(mean visual token, mean caption token).
        second_moment: tensor name -> AdamW's bias-corrected second moment at the end of the round, shaped as in
            `state`; for rules that weigh each parameter.
        extra: what a single rule needs: label -> tensor name -> tensor.
    """

    state: dict[str, Tensor]
    num_examples: int
    alignment_error: float = 0.0
    second_moment: dict[str, Tensor] | None = None
    extra: dict[str, dict[str, Tensor]] | None = None


@dataclass(frozen=True, eq=False)
class Public:
    """What everybody knows of a round because the server broadcasts it: all that a contribution may depend on,
    besides the client's own update and the method's options.

    Attributes:
        state: tensor name -> the global tensor that the round starts from.
        round: rounds finished so far, an opening one included (DARE's choice depends on it).
        tensors: label -> tensor name -> tensor, labelled as in `Aggregator.broadcast` (shared-basis: the basis).
        scalars: name -> number (fedcmp with a cap: "magnitude_limit", the most that a squared movement counts).
    """

    state: dict[str, Tensor]
    round: int = 0
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
