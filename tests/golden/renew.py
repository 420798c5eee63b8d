"""Write the golden results of this machine: `make golden`. Those of other machines stay as they are."""

import json
import sys
import tempfile
from pathlib import Path

from tests.golden.runs import GROUPS, golden, machine, own_folder, run_group


def main() -> None:
    """Run all groups (or those named) and write one file per run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for group in sys.argv[1:] or GROUPS:
            for run, result in run_group(group, folder / group, folder / "cache").items():
                content = {"machine": machine(), **result}
                path = golden(run)
                if path.exists() and json.loads(path.read_text())["machine"] != machine():
                    path = own_folder() / path.name
                    path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(content, indent=0) + "\n")
                print(f"{run}: {result['projector'][:12]}", flush=True)


if __name__ == "__main__":
    main()
