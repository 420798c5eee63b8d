"""The hub of models, asked whether it answers before transformers asks it for a file.

Without a network transformers asks for every file anew and waits half a minute each time. Here one short question to
the hub decides: where it does not answer, only its cache on this machine is read. The answer is remembered, so a
command asks once, whatever it loads.
"""

import os
import re
import time
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

MEND = "give a local folder, or fill the cache where there is a network and set HF_HUB_OFFLINE=1"
_PATIENCE = 5  # seconds for an answer, where HF_HUB_ETAG_TIMEOUT does not say otherwise
_PAUSE = 1.0  # seconds before the second and last try: a name server may have missed one question
_REMEMBERED = 600.0  # seconds; a session of hours may have a network later
_asked: tuple[float, str | None] | None = None  # when, and what `unreachable` said


def unreachable(name: str) -> str | None:
    """Return why the hub is not to be asked; None where it answers, whatever it says about the model.

    Args:
        name: a hub name, to ask about where nothing is remembered.
    """
    global _asked
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE=1 forbids to ask the hub"
    if _asked is None or time.monotonic() - _asked[0] > _REMEMBERED:
        reason = _ask(name)
        if reason is not None:
            time.sleep(_PAUSE)
            reason = _ask(name)
        _asked = (time.monotonic(), reason)
    return None if _asked[1] is None else f"the hub cannot be reached ({_asked[1]})"


def cached_folder(name: str) -> Path | None:
    """Return the folder of the hub's cache that holds the model's config.json, and so perhaps all of it."""
    config = try_to_load_from_cache(name, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _ask(name: str) -> str | None:
    """Return why the hub did not answer; any answer but a failure of its own is one."""
    timeout = constants.HF_HUB_ETAG_TIMEOUT if os.environ.get("HF_HUB_ETAG_TIMEOUT") else _PATIENCE
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=timeout)
    except HfHubHTTPError as error:  # no such model, no right to it, or asked too often: transformers reports it
        status = error.response.status_code
        return f"it answers with {status}" if status >= 500 else None
    except Exception as error:  # whatever the HTTP library in use raises without a network
        first = str(error).strip().splitlines()
        return re.sub(r"^\[Errno -?\d+\] ", "", first[0]) if first else type(error).__name__
    return None
