"""What computed a result: this package, Python and the libraries whose arithmetic a result depends on."""

import contextlib
import importlib.metadata
import platform
import tomllib
from pathlib import Path

from fedcmp.version import __version__

_LIBRARIES = ("torch", "transformers", "safetensors", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return name -> version, of the libraries that are installed."""
    known = {"fedcmp": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known


def remark_on_versions(recipe: Path) -> str:
    """Return one line where a recipe that a run wrote names other versions than those here; "" where there are none.

    Args:
        recipe: a recipe file; one that no run wrote names no versions.
    """
    try:
        written = tomllib.loads(recipe.read_text(encoding="utf-8")).get("versions", {})
    except (OSError, ValueError, RecursionError):  # reading the recipe itself reports it
        return ""
    if not isinstance(written, dict):
        return ""
    here = versions()
    differing = [
        f"{name} {written[name]} there, {here.get(name, 'none')} here"
        for name in dict.fromkeys([*here, *_LIBRARIES])
        if isinstance(written.get(name), str) and written[name] != here.get(name)
    ]
    if not differing:
        return ""
    return f"{recipe}: written by other versions, so results may differ: {'; '.join(differing)}"
