"""Processes for tests/deployment/test_supervised.py."""

import os
import signal
import subprocess
import sys
import time

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"here {kind}", flush=True)
    if kind == "parent":
        inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(f"started {inner.pid}", flush=True)
    if kind == "orphans":
        inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(f"left behind {inner.pid}", flush=True)
        os._exit(7)
    if kind == "loud":
        for number in range(10):
            print(f"line {number} of many that fill the log", flush=True)
        os._exit(0)
    time.sleep(60)
