"""What computed a result: this package, Python and the libraries whose arithmetic a result depends on."""

import contextlib
import importlib.metadata
import platform

from fedcmp import __version__

_LIBRARIES = ("torch", "transformers", "safetensors", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return name -> version, of the libraries that are installed."""
    known = {"fedcmp": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known
