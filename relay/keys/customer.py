"""A customer's key pair (Tink hybrid, HPKE X25519): the region has the public half only.

What is encrypted to it only the customer can decrypt. Files are Tink's JSON keysets.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import tink
from tink import hybrid, json_proto_keyset_format, proto_keyset_format, secret_key_access
from tink.proto import tink_pb2

from relay.errors import KeyMissing, NotAuthentic
from relay.keys import files

hybrid.register()
TEMPLATE = hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM
PUBLIC_TYPE = "type.googleapis.com/google.crypto.tink.HpkePublicKey"


class CustomerKey:
    """The public half. `id` follows from the key, so that no other key can have it."""

    def __init__(self, handle: Any) -> None:
        octets = proto_keyset_format.serialize_without_secret(handle)
        keyset = tink_pb2.Keyset.FromString(octets)
        primary = next(key for key in keyset.key if key.key_id == keyset.primary_key_id)
        if primary.key_data.type_url != PUBLIC_TYPE:
            raise ValueError("is no public key for HPKE")
        self.id = f"customer-{hashlib.sha256(primary.key_data.value).hexdigest()[:16]}"
        self._encrypt = handle.primitive(hybrid.HybridEncrypt).encrypt

    @staticmethod
    def read(path: str | Path) -> CustomerKey:
        """Raises KeyMissing, naming the file; a private key is none: it must not be here."""
        try:
            text = Path(path).read_text("utf-8")
            if Path(path).stat().st_mode & stat.S_IWOTH:
                raise KeyMissing(f"{path}: anybody may put their own key there: chmod o-w {path}")
            return CustomerKey(json_proto_keyset_format.parse_without_secret(text))
        except OSError as error:
            raise KeyMissing(f"{path}: {error.strerror}") from None
        except (tink.TinkError, ValueError):
            raise KeyMissing(
                f"{path}: is no public key of a customer (a Tink keyset in JSON, HPKE, without "
                "its private half): `relay keys customer` makes a pair"
            ) from None

    def wrap(self, data_key: bytes, context: str) -> bytes:
        wrapped: bytes = self._encrypt(data_key, context.encode())
        return wrapped


class PrivateKey:
    """Both halves, as the customer has them."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.public = CustomerKey(handle.public_keyset_handle())
        self._decrypt = handle.primitive(hybrid.HybridDecrypt).decrypt

    @staticmethod
    def create() -> PrivateKey:
        return PrivateKey(tink.new_keyset_handle(TEMPLATE))

    @staticmethod
    def read(path: str | Path) -> PrivateKey:
        """Raises KeyMissing, naming the file."""
        try:
            text = Path(path).read_text("utf-8")
            return PrivateKey(json_proto_keyset_format.parse(text, secret_key_access.TOKEN))
        except OSError as error:
            raise KeyMissing(f"{path}: {error.strerror}") from None
        except (tink.TinkError, ValueError, AttributeError):
            raise KeyMissing(
                f"{path}: is no private key of a customer (a Tink keyset in JSON, HPKE)"
            ) from None

    def write(self, private: Path, public: Path) -> None:
        """The private half is for its owner alone (0600). Raises OSError."""
        text = json_proto_keyset_format.serialize(self._handle, secret_key_access.TOKEN)
        handle = self._handle.public_keyset_handle()
        files.write(private, text.encode())
        public.write_text(json_proto_keyset_format.serialize_without_secret(handle), "utf-8")

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Raises NotAuthentic."""
        try:
            plain: bytes = self._decrypt(wrapped, context.encode())
        except tink.TinkError:
            raise NotAuthentic("this private key does not open it, or it was changed") from None
        return plain
