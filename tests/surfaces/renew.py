"""Write the lists of frozen surfaces anew: `make surfaces`. A change of them is listed in CHANGELOG."""

import tempfile
from pathlib import Path

import fedcmp.config
from fedcmp.config.catalogue import as_registered
from tests.simulation import runner
from tests.surfaces import surfaces


def made_run(folder: Path, cache: Path) -> Path:
    """Train a tiny recipe through the real command; return the run's folder."""
    recipe = folder / "surfaces.toml"
    recipe.write_text(surfaces.RECIPE)
    runner.fedcmp(folder, cache, "train", recipe)
    return folder / "runs" / "surfaces"


def main() -> None:
    """Write one file per surface."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lists = {
            "cli": surfaces.command_line(),
            "recipe": surfaces.recipe_keys(),
            "python": surfaces.python_names(),
            "run-folder": surfaces.run_folder(made_run(folder, folder / "cache")),
        }
    for name, lines in lists.items():
        (surfaces.FOLDER / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        print(f"{name}: {len(lines)} lines")
    catalogue = Path(fedcmp.config.__file__).with_name("catalogue.json")
    catalogue.write_text(as_registered(), encoding="utf-8")


if __name__ == "__main__":
    main()
