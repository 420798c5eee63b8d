"""What clients train: named tensors, how they act in a forward pass, and what becomes of them in an exported model.

The rounds, the wire, checkpoints and server rules know nothing but the names and tensors. Clients train a *projector*
(projector.py) unless a recipe's `model.projector` names another kind of the table below.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from fedcmp.model.projector import Projector


class Trainable(nn.Module):
    """A module whose parameters are what is trained; its `forward` is applied between encoder and LLM.

    Shapes: B images, P patches, V vision width, T visual tokens, D text width.
    """

    @abstractmethod
    def forward(self, features_BPV: Tensor) -> Tensor:
        """Turn (B, P, V) frozen features into (B, T, D) visual tokens, which stand before the text."""

    @abstractmethod
    def layer_inputs(self, features_BPV: Tensor) -> dict[str, Tensor]:
        """Return what each linear layer is fed, by its weight's name: (B, P, inputs); for steps in a shared basis."""

    @abstractmethod
    def as_projector(self) -> "Projector":
        """Return the projector that an exported LLaVA checkpoint holds.

        Raises:
            UserError: LLaVA's format cannot hold what was trained.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return detached copies of all parameters by name: what travels between client and server."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}


Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """One kind of trainable.

    Attributes:
        create: makes one; called with vision width, text width, initialisation= and seed=.
        shapes: vision width and text width -> its tensors' names and shapes, before anything is made.
        widths: its tensors -> vision width and text width.
    """

    create: Callable[..., Trainable]
    shapes: Callable[[int, int], Shapes]
    widths: Callable[[Mapping[str, Tensor]], tuple[int, int]]


_KINDS: dict[str, Kind] = {}


def register_trainable(name: str, kind: Kind) -> None:
    """Add a kind that recipes can name as `model.projector`.

    Raises:
        ValueError: the name is taken.
    """
    if name in _KINDS:
        raise ValueError(f"trainable {name!r} is registered twice")
    _KINDS[name] = kind


def _known() -> dict[str, Kind]:
    """Return the table, with our own kinds in it whoever asks first."""
    import_module("fedcmp.model.projector")
    return _KINDS


def trainable_kinds() -> list[str]:
    """Return the names of all kinds."""
    return list(_known())


def create_trainable(kind: str, vision_width: int, text_width: int, *, initialisation: str, seed: int) -> Trainable:
    """Make one with fresh weights; the same seed gives every client the same."""
    return _known()[kind].create(vision_width, text_width, initialisation=initialisation, seed=seed)


def trainable_shapes(kind: str, vision_width: int, text_width: int) -> Shapes:
    """Return the names and shapes of a kind's tensors."""
    return _known()[kind].shapes(vision_width, text_width)


def trainable_widths(kind: str, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the vision and text width that trained tensors were made for."""
    return _known()[kind].widths(tensors)
