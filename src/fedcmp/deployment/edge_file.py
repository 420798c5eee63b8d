"""EDGE.toml: an edge server, which is a site towards the server above it and a server towards its own sites."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fedcmp.config.sections import File, Section
from fedcmp.deployment.addresses import check_host
from fedcmp.deployment.site_file import (
    Port,
    Site,
    SiteIdentity,
    check_identity,
    identity_from,
    naming,
    parsed,
    read_toml,
    site_from,
)


class EdgeServing(Section):
    """How its own sites reach an edge server."""

    home: File = Field(
        Path("server"),
        description="folder of the server that its sites connect to: certificates and keys, as `fedcmp keys server` "
        "and `fedcmp keys add` write them",
    )
    address: Annotated[str, AfterValidator(check_host)] = Field(
        "0.0.0.0", description="address of this machine to listen on; 0.0.0.0: all"
    )
    port: Port = Field(8443, description="port that its sites connect to")


class EdgeServer(Section):
    """An edge server's whole file; its paths are absolute once `read_joining` has read it."""

    site: SiteIdentity
    edge: EdgeServing


def read_joining(path: Path, *, present: bool = True) -> Site | EdgeServer:
    """Read and check the file of whoever joins a server: a site, or an edge server, which has a section [edge].

    Relative paths are taken from the file's own folder.

    Args:
        path: a TOML file.
        present: check also that what it names is there.

    Raises:
        UserError: no such file, no TOML, an unknown key, a wrong type, a path that is not there: names file and key.
    """
    content = read_toml(path)
    return (_edge_from if "edge" in content else site_from)(content, path, present=present)


def read_edge(path: Path, *, present: bool = True) -> EdgeServer:
    """Read and check an edge server's file; see `read_joining`."""
    return _edge_from(read_toml(path), path, present=present)


def _edge_from(content: dict[str, Any], path: Path, *, present: bool) -> EdgeServer:
    edge = parsed(EdgeServer, content, path)
    folder = path.absolute().parent
    with naming(path):
        own = identity_from(edge.site, folder)
        if present:
            check_identity(own, path)
        serving = edge.edge.model_copy(update={"home": folder / edge.edge.home.expanduser()})
    return edge.model_copy(update={"site": own, "edge": serving})
