"""Libraries of others: those that are not installed with fedcmp itself, and what some of them would print."""

import importlib
import os

from fedcmp.errors import UserError


def require(module: str, extra: str, what: str) -> None:
    """Import an optional library, so that a plain `import` of it works afterwards.

    Args:
        module: its import name.
        extra: the extra of fedcmp that installs it.
        what: what needs it, for the message.

    Raises:
        UserError: it is not installed, or does not load here.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:  # the library itself, or one that it needs
        name = (error.name or module).partition(".")[0]
        raise UserError(f"{what}: {name} is not installed: pip install 'fedcmp[{extra}]'") from error
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{what}: {module} cannot be loaded ({reason}): pip install 'fedcmp[{extra}]'") from error


def quiet_libraries() -> None:
    """Keep transformers and the hub's client from printing bars and remarks of their own; before they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what a hub that cannot be reached means, we say in one line
