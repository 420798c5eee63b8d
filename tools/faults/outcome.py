"""What a run leaves behind that no fault may change: the model, the server's memory, records, the sites' states."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fedcmp.runs.record_files import checkpoint_folders
from tools.faults.places import ROUNDS, SITES, Places, Setting

Absent = frozenset[tuple[int, bool, str]]  # round, whether it is the opening one, site
_TIMES = ("seconds", "started", "ended", "arrived", "opened", "waited")
_OF_FILES = ("metrics_bytes", "metrics_sha256", "checksum")  # of state.json: they depend on times


def absences(places: Places) -> Absent:
    """Return who had no part in which round, as the server closed them."""
    closed: dict[tuple[int, bool], set[int]] = {}
    for line in places.closings.read_text(encoding="utf-8").splitlines():
        content: Mapping[str, Any] = json.loads(line)
        closed[content["round"], content["opening"]] = set(content["clients"])
    return frozenset(
        (number, opening, site)
        for (number, opening), clients in closed.items()
        for client, site in enumerate(SITES)
        if client not in clients
    )


def outcome(places: Places, setting: Setting, absent: Absent, *, judged_by_all: bool) -> dict[str, str]:
    """Return hashes of what is left of a finished run, by what it is; times are left out.

    Args:
        places: of the run.
        setting: what was run.
        absent: who had no part in which round; the state of a site that missed the last round is its own.
        judged_by_all: no site was left out of judging; else what it came to is left out here.
    """
    run = places.server
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    plain = [{key: value for key, value in line.items() if key not in _TIMES} for line in lines]
    judged = [line for line in plain if line["kind"] == "evaluation"]
    others = [line for line in plain if line["kind"] not in ("evaluation", "site", "run")]
    *_, last = checkpoint_folders(run)
    state = json.loads((last / "state.json").read_text(encoding="utf-8"))
    found = {
        "records": _hash(others),
        "state": _hash({key: value for key, value in state.items() if key not in (*_OF_FILES, "best")}),
    }
    if judged_by_all:
        found["judgements"] = _hash([judged, state["best"]])
    for path in last.glob("*.safetensors"):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = [path for site in SITES for path in places.state(site).glob(f"models/*/*/checkpoints/{last.name}/*")]
    handed = {path.read_bytes() for path in kept if path.name == "projector.safetensors"}
    found["handed over"] = str(handed <= {(last / "projector.safetensors").read_bytes()})  # to whom it came in time
    for site in SITES:
        if (ROUNDS, False, site) in absent:
            continue
        for path in places.state(site).glob(f"runs/*/methods/{setting.method}/round-{ROUNDS:04d}.safetensors"):
            found[f"{site}: {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
