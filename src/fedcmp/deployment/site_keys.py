"""Keys of sites: a private one that stays at the site, a public one that the server registers under the site's name.

A key is an ECDSA key on P-384 in OpenSSH's formats, as `ssh-keygen -t ecdsa -b 384` makes it and Flower's SuperNode
takes it. The server keeps HOME/sites/NAME.pub; which site a message is from is read from the key alone.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedcmp.config.sections import FOLDER_NAME
from fedcmp.deployment.private_files import check_private, private_folder, set_aside, write_new
from fedcmp.errors import UserError

SUFFIX = ".pub"
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LONGEST = 10_000  # bytes of a public key's file


@dataclass(frozen=True)
class PublicKey:
    """A site's public key.

    Attributes:
        line: as OpenSSH writes it: type and content, without comment.
        pem: the same key as Flower's SuperLink knows it (SubjectPublicKeyInfo, PEM).
        fingerprint: as `ssh-keygen -l` prints it, to compare over another channel.
    """

    line: str
    pem: bytes
    fingerprint: str


@dataclass(frozen=True)
class RegisteredSite:
    """A site whose key the server knows.

    Attributes:
        name: the site's.
        path: HOME/sites/NAME.pub.
        key: what is in it.
    """

    name: str
    path: Path
    key: PublicKey


def make_site_key(path: Path, name: str, *, rotate: bool = False) -> PublicKey:
    """Make a site's key: the private one at `path`, the public one next to it with ".pub".

    Args:
        path: the private key's place.
        name: the site's, as the public key's comment.
        rotate: set the present key aside first; a SuperNode that runs keeps using it until it is restarted.

    Raises:
        UserError: there is a key already and `rotate` is false; it cannot be written.
    """
    if path.exists() and not rotate:
        raise UserError(f"{path}: is there already; `fedcmp keys new SITE.toml --rotate` replaces it by a new one")
    if not path.parent.exists():
        private_folder(path.parent)
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = _public(key.public_key())
    set_aside(path)
    set_aside(public_path(path))
    write_new(path, private, mode=0o600)
    write_new(public_path(path), f"{public.line} {name}\n".encode(), mode=0o644)
    return public


def public_path(private: Path) -> Path:
    """Return where the public half of a site's key is."""
    return private.with_name(f"{private.name}{SUFFIX}")


def read_site_key(path: Path) -> PublicKey:
    """Return the public half of a site's private key.

    Raises:
        UserError: it is missing, readable by others, or no key that Flower takes.
    """
    try:
        check_private(path)
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `fedcmp keys new SITE.toml` makes it") from None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path}: is not a readable private key of a site ({error})") from None
    return _public(key.public_key(), path)


def read_public_key(path: Path) -> PublicKey:
    """Return a site's public key.

    Raises:
        UserError: it is missing, a private key, or no key that Flower takes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name the site's public key, a .pub file") from None
    if b"PRIVATE KEY" in content:
        raise UserError(
            f"{path}: is a private key, which must not leave the site; ask for the .pub file and for a new key, for "
            "this one is no secret any more"
        )
    try:
        key = serialization.load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path}: is not a public key in OpenSSH's format ({error})") from None
    return _public(key, path)


def register_site(folder: Path, name: str, file: Path, *, replace: bool = False) -> RegisteredSite:
    """Register a site's public key at the server.

    Args:
        folder: HOME/sites.
        name: the site's.
        file: its public key.
        replace: put this key in the place of another that the site had.

    Raises:
        UserError: the name is no site's name; it has another key and `replace` is false; another site has this key.
    """
    check_site_name(name)
    key = read_public_key(file)
    private_folder(folder)
    for other in registered_sites(folder):
        if other.name == name and other.key.line == key.line:
            return other
        if other.name == name and not replace:
            raise UserError(f"{other.path}: {name} has another key ({other.key.fingerprint}); --replace replaces it")
        if other.name != name and other.key.line == key.line:
            raise UserError(f"{file}: is the key of {other.name} already; each site needs one of its own")
        if other.name != name and other.name.casefold() == name.casefold():
            raise UserError(f"{name}: differs from {other.name} only in case; choose another name")
    path = folder / f"{name}{SUFFIX}"
    set_aside(path)
    write_new(path, f"{key.line} {name}\n".encode(), mode=0o644)
    return RegisteredSite(name, path, key)


def remove_site(folder: Path, name: str) -> Path:
    """Take a site's key out of the registered ones.

    Returns:
        Where the file is kept.

    Raises:
        UserError: no such site.
    """
    check_site_name(name)
    aside = set_aside(folder / f"{name}{SUFFIX}")
    if aside is None:
        known = ", ".join(site.name for site in registered_sites(folder)) or "none"
        raise UserError(f"{name}: no key of that site is registered; registered: {known}")
    return aside


def registered_sites(folder: Path) -> list[RegisteredSite]:
    """Return the sites whose keys are registered, by name.

    Raises:
        UserError: a file there is no public key.
    """
    paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    return [RegisteredSite(path.stem, path, read_public_key(path)) for path in paths]


def check_site_name(name: str) -> None:
    """Refuse a name that could not be a file's.

    Raises:
        UserError: says what a name may hold.
    """
    if not re.fullmatch(FOLDER_NAME, name):
        raise UserError(
            f"{name!r}: a site's name has letters, digits, '.', '_' and '-', and begins with one of the former"
        )


def _public(key: object, path: Path | None = None) -> PublicKey:
    place = f"{path}: " if path else ""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise UserError(f"{place}is not an ECDSA key on P-256, P-384 or P-521; `fedcmp keys new SITE.toml` makes one")
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return PublicKey(line, pem, f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}")
