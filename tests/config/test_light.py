"""A recipe is checked, and refused, before torch or transformers are loaded."""

import subprocess
import sys
from pathlib import Path

import fedcmp.config
from fedcmp.config import catalogue
from fedcmp.evaluation.suites import table
from fedcmp.study.recipe import SUITES
from tests.config.recipes import MINIMAL

MISTAKES = {
    "syntax": "[data\n",
    "key": MINIMAL + "[federation]\nround = 3\n",
    "type": MINIMAL + '[federation]\nrounds = "3"\n',
    "bound": MINIMAL + f"[evaluation]\nsamples = {2**70}\n",
    "method": MINIMAL + '[run]\nmethods = ["fedavgg"]\n',
    "option": MINIMAL + "[method.ties]\noptions = { densty = 1 }\n",
    "objective": MINIMAL + '[method.mine]\naggregator = "knots-ties"\nobjective = "canonical"\n',
    "step": MINIMAL + '[method.mine]\naggregator = "knots-ties"\nstep = "mun"\n',
    "step option": MINIMAL + "[method.centralized-with-soap]\nstep_options = { refersh = 2 }\n",
    "projector": MINIMAL + '[model]\nprojector = "mpl"\n',
    "pairs": '[data]\nformat = "llava"\npairs = "none.json"\n[method.ties]\noptions = { density = 0.5 }\n',
    "model": MINIMAL + '[model]\nlanguage = "./none"\n',
}
CODE = """
import sys
from fedcmp.cli.main import app
from fedcmp.errors import UserError
for path in sys.argv[1:]:
    try:
        app(["train", path], standalone_mode=False)
    except UserError as error:
        print(error)
    for heavy in ("torch", "transformers", "numpy"):
        assert heavy not in sys.modules, (path, heavy)
"""


def test_a_refused_recipe_loads_neither_torch_nor_transformers(tmp_path):
    paths = []
    for name, text in MISTAKES.items():
        paths.append(tmp_path / f"{name}.toml")
        paths[-1].write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, paths)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing had begun
    lines = done.stdout.splitlines()
    assert len(lines) == len(MISTAKES)
    for line, path in zip(lines, paths, strict=True):
        assert str(path) in line or "model.language = './none'" in line


def test_the_catalogue_says_what_the_registries_hold():
    path = Path(fedcmp.config.__file__).with_name("catalogue.json")
    assert path.read_text(encoding="utf-8") == catalogue.as_registered(), "renew it: make surfaces"


def test_the_catalogue_answers_alike_whether_the_registries_are_loaded_or_not(monkeypatch):
    loaded = catalogue.aggregators(), catalogue.objectives()
    monkeypatch.setattr(catalogue, "sys", type("Nothing", (), {"modules": {}}))
    assert (catalogue.aggregators(), catalogue.objectives()) == loaded
    assert catalogue.projectors() == ["mlp", "linear"]


def test_a_studys_mistake_is_found_as_early(tmp_path):
    code = (
        "import sys\nfrom fedcmp.errors import UserError\nfrom fedcmp.study.recipe import load_study\n"
        "from pathlib import Path\n"
        "try:\n    load_study(Path('none.toml'))\nexcept UserError as error:\n    print(error)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "none.toml: no such recipe file\n", done.stderr
    assert done.returncode == 0, done.stderr


def test_suites_are_named_after_the_benchmarks_that_they_stand_for():
    assert table.SUITES == SUITES


def test_a_plan_knows_the_projectors_in_a_process_of_its_own(tmp_path):
    """Nothing else has registered them there."""
    (tmp_path / "recipe.toml").write_text(MINIMAL)
    command = [sys.executable, "-m", "fedcmp", "train", "recipe.toml", "--plan"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("memory: at most ")
