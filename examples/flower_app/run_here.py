"""The same apps in this process, without SuperLink or Ray: a minute's try.

python examples/flower_app/run_here.py [rule]
"""

import sys

from client_app import app as client_app
from server_app import app as server_app

from fedcmp.federation.flower import run_locally

if __name__ == "__main__":
    rule = sys.argv[1] if len(sys.argv) > 1 else "shared-basis"
    config = {"rule": rule, "num-rounds": 10, "clients": 3, "lr": 0.01, "checkpoint": "", "result": ""}
    run_locally(server_app, client_app, 3, config)
