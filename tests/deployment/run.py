"""`fedcmp serve` and `fedcmp join` with stand-ins for the apps.

python -m tests.deployment.run serve RECIPE PORT [--resume] [SERVER_APP]
python -m tests.deployment.run join SITE.toml
"""

import sys
from pathlib import Path

from fedcmp.cli.ending import run_to_the_end
from fedcmp.cli.output import note
from fedcmp.config import load_recipe
from fedcmp.deployment.hosting import Address
from fedcmp.deployment.joining import Joining, join
from fedcmp.deployment.server_folder import open_server_folder
from fedcmp.deployment.serving import Work, serve
from fedcmp.deployment.site_file import read_site

APPS = "tests.deployment.stand_ins"


def main(standalone_mode):
    verb, path, *rest = sys.argv[1:]
    if verb == "join":
        site = read_site(Path(path))
        join(
            Joining(Path(path), site.site, 1, "tests.deployment.stand_in_trainer", client_app=f"{APPS}:client_app"),
            note,
        )
        return
    recipe = Path(path)
    resume = "--resume" in rest
    named = next((part for part in rest[1:] if not part.startswith("--")), "server_app")
    # what the server names as the ClientApp is not what sites run
    work = Work(recipe, load_recipe(recipe), resume, False, f"{APPS}:{named}", f"{APPS}:hostile_app")
    place = serve(open_server_folder(recipe.parent), work, Address("127.0.0.1", int(rest[0])), note)
    print(f"finished: {place}")


if __name__ == "__main__":
    run_to_the_end(main)
