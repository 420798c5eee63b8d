"""Run a module as a process that ends with its supervisor.

    python -m fedcmp.deployment.launch PARENT NAME ARGUMENT...

NAME is a module, run as `python -m` runs it, or "module:function", called with the arguments in sys.argv.
"""

import importlib
import runpy
import sys

from fedcmp.workers.parent import end_with_parent


def main() -> None:
    """Become what the arguments name."""
    parent, name, *arguments = sys.argv[1:]
    end_with_parent(int(parent))
    module, _, function = name.partition(":")
    sys.argv = [name, *arguments]
    if function:
        getattr(importlib.import_module(module), function)()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
