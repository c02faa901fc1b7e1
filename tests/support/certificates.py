"""A certificate authority for one test, made with `cryptography`: its certificate, and the certificates that it signs.

Example:
    >>> Authority("somebody").name
    'somebody'
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
_BEGAN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_ENDS = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


class Authority:
    """Signs certificates."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = (
            _builder(name, name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, path: Path) -> Path:
        """Writes the certificate of the authority itself."""
        path.write_bytes(self._certificate.public_bytes(_PEM))
        return path

    def issue(
        self, folder: Path, name: str, *, host: str = "127.0.0.1", password: bytes | None = None
    ) -> dict[str, Path]:
        """Writes a certificate for a host and its key: `cert` and `key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        certificate = (
            _builder(name, self.name, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        )
        hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        written = {"cert": folder / f"{name}.pem", "key": folder / f"{name}.key"}
        written["cert"].write_bytes(certificate.public_bytes(_PEM))
        written["key"].write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, hidden))
        return written


def _builder(name: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGAN)
        .not_valid_after(_ENDS)
    )
