"""`fedcmp serve`: a recipe's run between sites, from a server's folder (hosting.py keeps it going)."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedcmp.config import Recipe
from fedcmp.deployment.certificates import check_certificates
from fedcmp.deployment.hosting import Address, Config, Hosted, check_port, host
from fedcmp.deployment.invitation import check_deployable, recipe_checksum
from fedcmp.deployment.server_folder import CLIENT_APP, SERVER_APP, ServerFolder
from fedcmp.deployment.site_keys import registered_sites
from fedcmp.errors import UserError
from fedcmp.locks import alone_in
from fedcmp.runs.place import check_place

Say = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """What the server is to do.

    Attributes:
        path: the recipe's file, absolute.
        recipe: what is in it.
        resume: continue the run that is there; where there is none, begin it.
        overwrite: remove the run that is there.
        server_app: "module:name" of the ServerApp.
        client_app: that of the ClientApp.
    """

    path: Path
    recipe: Recipe
    resume: bool = False
    overwrite: bool = False
    server_app: str = SERVER_APP
    client_app: str = CLIENT_APP


def serve(folder: ServerFolder, work: Work, address: Address, say: Say) -> Path:
    """Serve until the recipe's run is over.

    Args:
        folder: HOME.
        work: the recipe and what is done with an earlier run of it.
        address: where sites reach the server.
        say: called with each line for the user.

    Returns:
        The run's folder.

    Raises:
        UserError: certificates or keys are missing, the port is taken, a run is there already, or the run stopped with
            an error of its own.
        WorkerDied: a process died again and again.
    """
    place = folder.run_place(work.recipe)
    check_deployable(work.recipe)
    _check_sites(folder, work)
    for remark in check_certificates(folder.certificates):
        say(remark)
    resume = work.resume and place.exists() and any(place.iterdir())  # a service says --resume at its first start too
    check_place(_at_home(folder, work.recipe), resume=resume, overwrite=work.overwrite)
    check_port(address, f"--address {address.host} --port {address.port}")
    with alone_in(folder.home, f"{folder.home}: another `fedcmp serve` works there; stop it first"):
        if work.overwrite and place.exists():
            shutil.rmtree(place)
        say(f"recipe: {work.path}, sha256 {recipe_checksum(work.recipe)}")
        host(folder, _hosted(folder, work, place), address, say)
    return place


def _hosted(folder: ServerFolder, work: Work, place: Path) -> Hosted:
    def config(is_restart: bool) -> Config:
        begun = (place / "recipe.toml").exists()  # a run that died before has nothing to resume
        return {
            "recipe": str(work.path),
            "home": str(folder.home),
            "resume": (work.resume or is_restart) and begun,
        }

    facts = {"recipe": str(work.path), "place": str(place), "sites": list(work.recipe.deployment.sites)}
    after = f"; to continue: fedcmp serve {work.path} --resume"
    return Hosted(work.server_app, work.client_app, config, facts, after)


def _at_home(folder: ServerFolder, recipe: Recipe) -> Recipe:
    run = recipe.run.model_copy(update={"folder": folder.home / recipe.run.folder})
    return recipe.model_copy(update={"run": run})


def _check_sites(folder: ServerFolder, work: Work) -> None:
    deployment = work.recipe.deployment
    beneath = {site for sites in deployment.edges.values() for site in sites}
    connecting = [*deployment.edges, *(site for site in deployment.sites if site not in beneath)]
    known = {site.name for site in registered_sites(folder.sites)}
    if unknown := [name for name in connecting if name not in known]:
        key = "edges" if unknown[0] in deployment.edges else "sites"
        raise UserError(
            f"{work.path}: deployment.{key}: no key of {', '.join(unknown)} in {folder.sites}; register it: "
            f"fedcmp keys add {folder.home} {unknown[0]} FILE.pub"
        )
