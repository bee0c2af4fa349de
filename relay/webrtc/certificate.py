"""The certificate that DTLS shows: made by ourselves, known by its fingerprint (RFC 8122)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = timedelta(days=365)
EARLIER = timedelta(days=1)  # a peer's clock may be behind


class Certificate(NamedTuple):
    """A P-256 key and its self-signed certificate; `digest` is the SHA-256 of its DER."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    digest: bytes


def make_certificate(now: datetime) -> Certificate:
    """A new key; it lives as long as the process and never reaches a disk."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voice")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + VALID)
        .sign(key, hashes.SHA256())
    )
    return Certificate(key, certificate, certificate.fingerprint(hashes.SHA256()))
