"""Our certificate as files: what it says, and whether it can be served."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from relay.errors import CertificateError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


CUSTOMER_KEY = "type.googleapis.com/google.crypto.tink.HpkePublicKey"
WARN_DAYS = 14.0  # before it expires


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the first certificate of a PEM file says."""

    subject: str
    serial: str
    not_after: datetime

    def days_left(self, now: datetime) -> float:
        return (self.not_after - now).total_seconds() / 86400


def read_certificate(certificate: str, key: str, now: datetime | None = None) -> Certificate:
    """Check a certificate and its key, and say what it is.

    Raises CertificateError: a file that is missing or half-written, a key of another
    certificate, one that is encrypted, a certificate that is not valid now.
    """
    now = now or datetime.now(UTC)
    chain, secret = _octets(certificate), _octets(key)
    try:
        found = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise CertificateError(f"{certificate}: is not a whole certificate in PEM") from None
    try:
        private = load_pem_private_key(secret, None)
    except TypeError:
        raise CertificateError(
            f"{key}: the key is encrypted, and nobody is there to type its password"
        ) from None
    except Exception:  # cryptography has several of its own; none may show what the file holds
        raise CertificateError(f"{key}: is not a whole private key in PEM") from None
    if _spki(found.public_key()) != _spki(private.public_key()):
        raise CertificateError(f"{key}: is the key of another certificate than {certificate}")
    until = found.not_valid_after_utc
    if now > until:
        raise CertificateError(f"{certificate}: expired on {until:%Y-%m-%d %H:%M} UTC")
    if now < found.not_valid_before_utc:
        begins = found.not_valid_before_utc
        raise CertificateError(f"{certificate}: is not valid before {begins:%Y-%m-%d %H:%M} UTC")
    return Certificate(found.subject.rfc4514_string(), f"{found.serial_number:x}", until)


def check_authorities(path: str) -> None:
    """Raises CertificateError when a file of authorities cannot be used."""
    octets = _octets(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=octets.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise CertificateError(f"{path}: holds no certificates in PEM") from None


def read_public_key(path: str) -> EllipticCurvePublicKey:
    """The key that verifies tokens of ES256 (RFC 7518 section 3.4). Raises CertificateError."""
    octets = _octets(path)
    if b"PRIVATE KEY" in octets:
        raise CertificateError(f"{path}: is the private key, which stays with the account")
    try:
        found = load_pem_public_key(octets)
    except Exception:  # cryptography has several of its own
        raise CertificateError(f"{path}: is not a public key in PEM") from None
    if not isinstance(found, EllipticCurvePublicKey) or not isinstance(found.curve, SECP256R1):
        raise CertificateError(f"{path}: is not a key of P-256, which ES256 needs")
    return found


def check_recording_key(path: str) -> None:
    """Raises CertificateError when it is not the public key of a customer (Tink's JSON keyset,
    HPKE); a private one must not be here."""
    try:
        keys = json.loads(_octets(path))["key"]
        data = [key["keyData"] for key in keys]
        kinds = {(each["typeUrl"], each["keyMaterialType"]) for each in data}
    except (ValueError, KeyError, TypeError):
        raise CertificateError(f"{path}: is no Tink keyset in JSON") from None
    if any(material == "ASYMMETRIC_PRIVATE" for _, material in kinds):
        raise CertificateError(f"{path}: is the private key, which stays with the customer")
    if kinds != {(CUSTOMER_KEY, "ASYMMETRIC_PUBLIC")}:
        raise CertificateError(f"{path}: is no public key for HPKE")


def _octets(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
