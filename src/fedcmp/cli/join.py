"""The verb `fedcmp join`: a site of a federation."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.output import begin, note
from fedcmp.extras import require


def join_command(
    site: Annotated[Path, typer.Argument(help="The site's file (TOML).", show_default=False)],
) -> None:
    """Work for a federation's server with this site's own pairs, until Ctrl-C.

    Reconnects by itself; a part under way outlives the connection and a restart of the server.

    Example: fedcmp join SITE.toml
    """
    for module in ("cryptography", "flwr"):
        require(module, "deployment", "join")
    from fedcmp.deployment.site_file import read_site

    loaded = read_site(site)
    begin(f"{site}: starting {loaded.site.name}")
    from fedcmp.deployment.joining import Joining, join

    try:
        join(Joining(site.absolute(), loaded), note)
    except KeyboardInterrupt:
        note("")
        note(f"stopped; what {loaded.site.name} has begun is kept. To continue: fedcmp join {site}")
        raise
