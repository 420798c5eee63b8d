"""The verb `fedcmp join`: a site of a federation."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.output import begin, note
from fedcmp.extras import require


def join_command(
    site: Annotated[Path, typer.Argument(help="File of the site, or of an edge server (TOML).", show_default=False)],
) -> None:
    """Work for a federation's server with this site's own pairs, until Ctrl-C.

    Reconnects by itself; a part under way outlives the connection and a restart of the server. A file with a section
    [edge] is that of an edge server, which has sites of its own and passes their sum on.

    Example: fedcmp join SITE.toml
    """
    for module in ("cryptography", "flwr"):
        require(module, "deployment", "join")
    from fedcmp.deployment.edge_file import EdgeServer, read_joining

    loaded = read_joining(site)
    begin(f"{site}: starting {loaded.site.name}")
    from fedcmp.deployment.edge_server import EDGE_SERVER
    from fedcmp.deployment.joining import Joining, join

    if isinstance(loaded, EdgeServer):
        joining = Joining(site.absolute(), loaded.site, trainer=EDGE_SERVER, name="edge server")
    else:
        joining = Joining(site.absolute(), loaded.site, loaded.limits.threads)
    try:
        join(joining, note)
    except KeyboardInterrupt:
        note("")
        note(f"stopped; what {loaded.site.name} has begun is kept. To continue: fedcmp join {site}")
        raise
