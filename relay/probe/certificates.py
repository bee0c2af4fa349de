"""Certificates for tests and the demonstration: an authority and what it signs (ECDSA P-256)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key as files."""

    certificate: Path
    key: Path
    serial: str

    @property
    def tls(self) -> dict[str, str]:
        """As `[sip.tls]` names them."""
        return {"certificate": str(self.certificate), "key": str(self.key)}


def name_of(text: str) -> x509.GeneralName:
    """`sip:domain` as a URI, an address as an address, anything else as a DNS name."""
    if text.startswith(("sip:", "sips:", "https:")):
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """A CA in a directory; `file` is its certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {name}")])
        self.file = directory / f"{name}.pem"
        certificate = (
            self._builder(self._name, self._key.public_key(), -1, 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        file: str,
        *names: str,
        days: float = 30,
        begins: float = -1,
        common_name: str = "relay test",
    ) -> Pair:
        """A certificate for these names, in `file`.pem and `file`.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(subject, key.public_key(), begins, days)
        if names:
            alternatives = x509.SubjectAlternativeName([name_of(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        paths = self._directory / f"{file}.pem", self._directory / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Pair(*paths, f"{certificate.serial_number:x}")

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, days: float
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + days * DAY)
        )
