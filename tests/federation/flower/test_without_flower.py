"""Where Flower is not installed, its names say what to install, and nothing else needs it."""

import subprocess
import sys

CODE = """
import sys
sys.modules["flwr"] = None
import fedcmp.federation.flower
try:
    from fedcmp.federation.flower import AggregatorStrategy
except fedcmp.UserError as error:
    print(error)
"""


def test_the_name_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("fedcmp.federation.flower: flwr is not installed: pip install 'fedcmp[deployment]'")


def test_every_exported_name_is_there():
    import fedcmp.federation.flower as package

    assert sorted(package._FILES) == package.__all__
    assert all(hasattr(package, name) for name in package.__all__)
    assert not hasattr(package, "nothing")
