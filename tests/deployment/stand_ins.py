"""Small stand-ins for the apps of a federation: a ServerApp that counts rounds, a ClientApp that asks a trainer.

The ServerApp sends each site of HOME/roster.json a number and expects it back plus one, with the process number of the
trainer. HOME/rounds.json holds what is finished; a run that resumes continues behind it.
"""

import json
import socket
import time
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedcmp.config import dump_recipe, load_recipe
from fedcmp.errors import UserError

server_app = ServerApp()
client_app = ClientApp()
failing_app = ServerApp()
broken_app = ServerApp()
hostile_app = ClientApp()


@server_app.main()
def count_rounds(grid, context):
    home = Path(str(context.run_config["home"]))
    kept = home / "rounds.json"
    done = json.loads(kept.read_text()) if context.run_config["resume"] and kept.exists() else []
    place = home / "runs" / "test"  # of a run that has begun
    place.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(Path(str(context.run_config["recipe"])))
    (place / "recipe.toml").write_text(dump_recipe(recipe))
    print(f"resuming behind round {len(done)}" if done else "beginning", flush=True)
    settings = json.loads((home / "settings.json").read_text())
    while len(done) < settings["rounds"]:
        roster = _wait_for_all(grid, home, settings["sites"])
        number = len(done) + 1
        if settings.get("pause"):
            time.sleep(settings["pause"])
        messages = [
            Message(
                RecordDict({"ask": ConfigRecord({"number": number})}),
                dst_node_id=node,
                message_type="query",
                ttl=30,
                group_id=str(number),
            )
            for node in roster
        ]
        replies = {
            roster[reply.metadata.src_node_id]: reply.content["answer"]
            for reply in grid.send_and_receive(messages, timeout=30)
            if not reply.has_error()
        }
        if len(replies) < settings["sites"]:
            print(f"round {number}: only {len(replies)} replies, asking again", flush=True)
            continue
        done.append({name: dict(answer) for name, answer in sorted(replies.items())})
        kept.with_suffix(".new").write_text(json.dumps(done))
        kept.with_suffix(".new").replace(kept)
        print(f"round {number} is done", flush=True)


def _wait_for_all(grid, home, count):
    while True:
        roster = {int(node): name for node, name in json.loads((home / "roster.json").read_text()).items()}
        there = {node: roster[node] for node in grid.get_node_ids() if node in roster}
        if len(there) == count:
            return there
        time.sleep(0.2)


@client_app.query()
def ask_trainer(message, context):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(context.node_config["socket"]))
        connection.sendall(f"{message.content['ask']['number']}\n".encode())
        answer = json.loads(connection.makefile().readline())
    return Message(RecordDict({"answer": ConfigRecord(answer)}), reply_to=message)


@failing_app.main()
def fail(grid, context):
    raise UserError("the recipe asks for the impossible")


@broken_app.main()
def fail_by_mistake(grid, context):
    raise KeyError("none")


@hostile_app.query()
def never(message, context):
    Path("/tmp/never-to-be-run").touch()
    return Message(RecordDict(), reply_to=message)
