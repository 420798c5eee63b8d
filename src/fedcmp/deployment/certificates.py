"""The federation's own certificate authority and the server's certificate, made without the openssl command.

    certificates/ca.key        private key of the authority (0600); needed to renew the server's certificate only
    certificates/ca.pem        certificate of the authority; every site gets a copy
    certificates/server.key    private key of the server (0600)
    certificates/server.pem    certificate of the server, signed by the authority

All keys are on P-384. The authority's certificate is valid for ten years, the server's for two.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcmp.deployment.addresses import check_host, is_ip
from fedcmp.deployment.private_files import private_folder, set_aside, write_new
from fedcmp.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # the server's own processes reach it so
AUTHORITY_DAYS, SERVER_DAYS = 3650, 730
RENEW_DAYS = 30  # before its end a certificate is to be renewed
_EARLIER = timedelta(days=2)  # a site's clock may be behind


@dataclass(frozen=True)
class Certificates:
    """Where a server's certificates are.

    Attributes:
        folder: HOME/certificates.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        """Return the authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """Return the authority's private key."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """Return the server's certificate."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """Return the server's private key."""
        return self.folder / "server.key"


def make_authority(folder: Path, name: str = "fedcmp federation") -> Certificates:
    """Make the authority of a federation, unless it is there.

    Args:
        folder: HOME/certificates; made private.
        name: the authority's name, for people who look at its certificate.

    Raises:
        UserError: a half of it is missing, or it cannot be written.
    """
    certificates = Certificates(private_folder(folder))
    if certificates.authority.exists() and certificates.authority_key.exists():
        return certificates
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    write_new(certificates.authority_key, _private_pem(key), mode=0o600)
    write_new(certificates.authority, _pem(builder.sign(key, hashes.SHA384())), mode=0o644)
    return certificates


def make_server_certificate(
    certificates: Certificates, hosts: Sequence[str], *, renew: bool = False
) -> x509.Certificate:
    """Make the server's certificate, or renew it.

    Args:
        certificates: of a server whose authority is there.
        hosts: names and IP addresses under which sites reach the server; the loopback's are added.
        renew: set the present certificate and its key aside first.

    Returns:
        The certificate; its key is a new one.

    Raises:
        UserError: there is one already and `renew` is false; a host is no host; the authority is missing.
    """
    for host in hosts:
        try:
            check_host(host)
        except ValueError as error:
            raise UserError(f"--address: {error}") from None
    authority, authority_key = _read_certificate(certificates.authority), _read_key(certificates.authority_key)
    key = ec.generate_private_key(ec.SECP384R1())
    names = [x509.IPAddress(ipaddress.ip_address(host)) if is_ip(host) else x509.DNSName(host) for host in _all(hosts)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (hosts or LOOPBACK)[0][:64])])
    builder = (
        _builder(subject, authority.subject, key.public_key(), SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    signed = builder.sign(authority_key, hashes.SHA384())
    if renew:
        set_aside(certificates.server_key)
        set_aside(certificates.server)
    write_new(certificates.server_key, _private_pem(key), mode=0o600)
    write_new(certificates.server, _pem(signed), mode=0o644)
    return signed


def server_hosts(certificate: x509.Certificate) -> list[str]:
    """Return the hosts that a server's certificate names."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def check_certificates(certificates: Certificates) -> list[str]:
    """Refuse a server whose certificates are missing, out of date, or do not belong together.

    Returns:
        Remarks: a certificate that ends soon.

    Raises:
        UserError: names the file, and the command that makes or renews it.
    """
    home = certificates.folder.parent
    for path in (certificates.authority, certificates.server, certificates.server_key):
        if not path.exists():
            raise UserError(f"{path}: no such file; `fedcmp keys server {home} --address HOST` makes it")
    authority, server = _read_certificate(certificates.authority), _read_certificate(certificates.server)
    again = f"`fedcmp keys server {home} --renew` renews it"
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise UserError(f"{certificates.server}: is not signed by {certificates.authority}; {again}") from None
    if _read_key(certificates.server_key).public_key() != server.public_key():
        raise UserError(f"{certificates.server_key}: is not the key of {certificates.server}; {again}")
    remarks = []
    for path, certificate in ((certificates.authority, authority), (certificates.server, server)):
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        if left <= timedelta(0):
            raise UserError(f"{path}: has expired on {certificate.not_valid_after_utc:%Y-%m-%d}; {again}")
        if left <= timedelta(days=RENEW_DAYS):
            remarks.append(f"{path}: expires on {certificate.not_valid_after_utc:%Y-%m-%d}; {again}")
    return remarks


def read_server_certificate(certificates: Certificates) -> x509.Certificate:
    """Return the server's certificate.

    Raises:
        UserError: it is missing or no certificate.
    """
    return _read_certificate(certificates.server)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _all(hosts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*hosts, *LOOPBACK]))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `fedcmp keys server` makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is not a readable certificate in PEM ({error})") from None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; without it no certificate can be renewed") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is not a readable private key in PEM ({error})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path}: is not an elliptic curve's private key")
    return key
