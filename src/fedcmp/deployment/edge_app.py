"""An edge server's ServerApp: what the server above asks comes in by a Unix socket, its sites are asked over the Grid.

Run config: `home` (whose roster.json says which node is which site), `socket`, `folder` (for the replies of the round
under way).
"""

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedcmp.deployment.edge import Edge
from fedcmp.deployment.server_folder import read_roster
from fedcmp.deployment.trainer_socket import TrainerSocket
from fedcmp.federation.flower.link import FlowerLink

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Answer the server's requests until the run is ended."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    config = context.run_config
    home = Path(str(config["home"]))
    edge = Edge(FlowerLink(grid, lambda: read_roster(home)), Path(str(config["folder"])), _say)
    with TrainerSocket(Path(str(config["socket"])), edge.answer, edge.malformed) as server:
        _say("the edge server is ready")
        server.serve_forever()


def _say(line: str) -> None:
    print(line, flush=True)
