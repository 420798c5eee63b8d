"""The verbs of `fedcmp keys`: who belongs to a federation, and how the server proves that it is the right one."""

from pathlib import Path
from typing import Annotated

import typer

from fedcmp.cli.output import note, result
from fedcmp.extras import require

keys_app = typer.Typer(
    name="keys",
    help="Keys of sites and certificates of the server: new, add, list, remove, server.",
    no_args_is_help=True,
)
Home = Annotated[Path, typer.Argument(help="Server's folder.", show_default=False)]
SiteFile = Annotated[Path, typer.Argument(help="The site's file (TOML).", show_default=False)]


@keys_app.command("new")
def keys_new_command(
    site: SiteFile,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make a new key in the place of the present one, which is kept.")
    ] = False,
) -> None:
    """Make a site's key, at the site. The private key never leaves it; send the .pub file to the server's operator.

    Likewise an edge server's, from its own file.

    Example: fedcmp keys new SITE.toml
    """
    require("cryptography", "deployment", "keys")
    from fedcmp.deployment.edge_file import read_joining
    from fedcmp.deployment.site_keys import make_site_key, public_path

    own = read_joining(site, present=False).site
    key = make_site_key(own.key, own.name, rotate=rotate)
    result(f"key of {own.name}: {key.fingerprint}")
    result(f"public key, to be sent to the server's operator: {public_path(own.key)}")
    result(f"{key.line} {own.name}")


@keys_app.command("add")
def keys_add_command(
    home: Home,
    name: Annotated[str, typer.Argument(help="Name of the site.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Its public key, a .pub file.", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of the key that the site has.")] = False,
) -> None:
    """Register a site's public key at the server. A server that runs lets it in within seconds.

    Compare the fingerprint with the site over another channel, such as the telephone.

    Example: fedcmp keys add server/ hospital-a hospital-a.pub
    """
    require("cryptography", "deployment", "keys")
    from fedcmp.deployment.server_folder import open_server_folder
    from fedcmp.deployment.site_keys import register_site

    site = register_site(open_server_folder(home).sites, name, file, replace=replace)
    result(f"{site.name}: {site.key.fingerprint}")


@keys_app.command("list")
def keys_list_command(home: Home) -> None:
    """List the sites whose keys are registered.

    Example: fedcmp keys list server/
    """
    require("cryptography", "deployment", "keys")
    from fedcmp.deployment.site_keys import registered_sites

    sites = registered_sites(home / "sites")
    if not sites:
        note(f"{home}: no keys are registered; `fedcmp keys add` registers one")
    for site in sites:
        result(f"{site.name:<26}{site.key.fingerprint}")


@keys_app.command("remove")
def keys_remove_command(
    home: Home, name: Annotated[str, typer.Argument(help="Name of the site.", show_default=False)]
) -> None:
    """Take a site's key back. A server that runs refuses the site within seconds.

    Example: fedcmp keys remove server/ hospital-a
    """
    require("cryptography", "deployment", "keys")
    from fedcmp.deployment.site_keys import remove_site

    result(f"{name}: registered no more; its key is kept in {remove_site(home / 'sites', name)}")


@keys_app.command("server")
def keys_server_command(
    home: Home,
    address: Annotated[
        list[str] | None,
        typer.Option(help="Name or IP address by which sites reach the server. Can be repeated.", show_default=False),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new server certificate; default addresses: the present ones.")
    ] = False,
) -> None:
    """Make the federation's authority and the server's certificate, or renew the latter.

    Every site needs a copy of the authority's certificate (ca.pem), from which it knows the server.

    Example: fedcmp keys server server/ --address fl.example.org
    """
    require("cryptography", "deployment", "keys")
    from fedcmp.deployment.certificates import (
        make_authority,
        make_server_certificate,
        read_server_certificate,
        server_hosts,
    )
    from fedcmp.deployment.server_folder import open_server_folder
    from fedcmp.errors import UserError

    folder = open_server_folder(home)
    hosts = list(address or [])
    if renew and not hosts:
        hosts = server_hosts(read_server_certificate(folder.certificates))
    if not hosts:
        raise UserError("--address: give the name or IP address by which sites reach the server")
    if folder.certificates.server.exists() and not renew:
        raise UserError(f"{folder.certificates.server}: is there already; --renew replaces it")
    certificates = make_authority(folder.certificates.folder)
    made = make_server_certificate(certificates, hosts, renew=renew)
    result(f"server certificate for {', '.join(server_hosts(made))}, until {made.not_valid_after_utc:%Y-%m-%d}")
    result(f"for the sites: {certificates.authority}")
