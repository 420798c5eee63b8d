"""A stand-in for a site's trainer: adds one to the number that it is sent, and says which process it is."""

import json
import os
import socket
import sys
from pathlib import Path


def main():
    place = Path(sys.argv[sys.argv.index("--socket") + 1])
    place.unlink(missing_ok=True)
    if "refuse" in sys.argv[1]:
        print("fedcmp: data.pairs: nothing usable", flush=True)
        sys.exit(2)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        print(f"trainer ready, loaded once as process {os.getpid()}", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                number = int(connection.makefile().readline())
                answer = {"number": number + 1, "process": os.getpid()}
                connection.sendall((json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
