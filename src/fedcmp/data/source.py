"""Where pairs come from: the interface that every reader of images and captions fulfils."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedcmp.data.quality import Rejected


@dataclass(frozen=True)
class Pair:
    """One image-caption pair without its image.

    Attributes:
        key: names the pair within its source, unique and the same on every copy of the data.
        caption: cleaned (`captions.clean_caption`), never empty.
        group: a free label such as a content family, from the record's field "group"; None if there is none.
    """

    key: str
    caption: str
    group: str | None = None


class PairSource(Protocol):
    """Pairs by index, read lazily. Every index in range(len(source)) has a usable record and caption.

    Implementations hold no open file that a forked or pickled copy could not use.
    """

    @property
    def name(self) -> str:
        """A short name for messages, such as "pairs.json"."""
        ...

    @property
    def rejected(self) -> Sequence[Rejected]:
        """The records that were refused when the source was opened; they have no index, and count as bad pairs."""
        ...

    @property
    def unused(self) -> Mapping[str, int]:
        """How many further pairs were read and are not used by rule, by reason; they are no losses (`accounts`)."""
        ...

    @property
    def ignored(self) -> Mapping[str, int]:
        """What stands beside the pairs and is not read, by reason: later turns, files of a test split."""
        ...

    def __len__(self) -> int: ...

    def pair(self, index: int) -> Pair:
        """Read one pair's key, caption and group: some tens of microseconds, no image is touched.

        Raises:
            BadPair: the annotation file has changed since it was opened.
        """
        ...

    def read_image(self, index: int) -> bytes:
        """Read one image's file, undecoded.

        Raises:
            BadPair: the file is missing, unreadable, not a file, too large, or another than when it was fingerprinted.
        """
        ...

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Return a sha256 over captions, keys and all bytes of the images, the same for every copy of the data.

        The first call reads the images, or knows them from an earlier time (`contents`); `progress` is then called
        with how many are known, and of how many.
        """
        ...

    def locate(self, index: int) -> str:
        """Return where a person finds the pair: "pairs.json[17] images/a.png"."""
        ...
