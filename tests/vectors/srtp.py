"""Published vectors of SRTP: RFC 3711 appendix B, RFC 6188 section 7, RFC 7714 sections 16, 17.

Session keys are given as such (no derivation) where the RFC does.
"""

from __future__ import annotations

from typing import NamedTuple

hexadecimal = bytes.fromhex


class Derivation(NamedTuple):
    """Master key and salt, and what is derived for SRTP."""

    suite: str
    key: bytes
    salt: bytes
    session_key: bytes
    session_auth: bytes
    session_salt: bytes


DERIVATIONS = {
    "RFC 3711 B.3": Derivation(
        "AES_CM_128_HMAC_SHA1_80",
        hexadecimal("E1F97A0D3E018BE0D64FA32C06DE4139"),
        hexadecimal("0EC675AD498AFEEBB6960B3AABE6"),
        hexadecimal("C61E7A93744F39EE10734AFE3FF7A087"),
        hexadecimal("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
        hexadecimal("30CBBC08863D8C85D49DB34A9AE1"),
    ),
    "RFC 6188 7.2": Derivation(
        "AES_256_CM_HMAC_SHA1_80",
        hexadecimal("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6"),
        hexadecimal("3b04803de51ee7c96423ab5b78d2"),
        hexadecimal("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"),
        hexadecimal("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"),
        hexadecimal("fa31791685ca444a9e07c6c64e93"),
    ),
}


class Keystream(NamedTuple):
    """The first three blocks for SSRC 0 and index 0: a packet of zeros shows them."""

    suite: str
    session_key: bytes
    session_salt: bytes
    blocks: bytes


KEYSTREAMS = {
    "RFC 3711 B.2": Keystream(
        "AES_CM_128_HMAC_SHA1_80",
        hexadecimal("2B7E151628AED2A6ABF7158809CF4F3C"),
        hexadecimal("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
        hexadecimal(
            "E03EAD0935C95E80E166B16DD92B4EB4"
            "D23513162B02D0F72A43A2FE4A5F97AB"
            "41E95B3BB0A2E8DD477901E4FCA894C0"
        ),
    ),
    "RFC 6188 7.1": Keystream(
        "AES_256_CM_HMAC_SHA1_80",
        hexadecimal("57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98"),
        hexadecimal("f0f1f2f3f4f5f6f7f8f9fafbfcfd"),
        hexadecimal(
            "92bdd28a93c3f52511c677d08b5515a4"
            "9da71b2378a854f67050756ded165bac"
            "63c4868b7096d88421b563b8c94c9a31"
        ),
    ),
}

GCM_SALT = hexadecimal("517569642070726f2071756f")
GCM_KEYS = {
    "AEAD_AES_128_GCM": bytes(range(16)),
    "AEAD_AES_256_GCM": bytes(range(32)),
}
RTP_HEADER = hexadecimal("8040f17b8041f8d35501a0b2")
RTP = RTP_HEADER + b"Gallia est omnis divisa in partes tres"
SRTP = {  # sections 16.1.1 and 16.2.1
    "AEAD_AES_128_GCM": RTP_HEADER
    + hexadecimal(
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
        "899d7f27beb16a9152cf765ee4390cce"
    ),
    "AEAD_AES_256_GCM": RTP_HEADER
    + hexadecimal(
        "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
        "7aa3db36dfffd6b0f9bb7878d7a76c13"
    ),
}
SRTCP_INDEX = 0x5D4
RTCP_HEADER = hexadecimal("81c8000d4d617273")
RTCP = RTCP_HEADER + hexadecimal(
    "4e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)
SRTCP = {  # sections 17.1 and 17.2: encrypted
    "AEAD_AES_128_GCM": RTCP_HEADER
    + hexadecimal(
        "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275b"
        "c84aa45896cf4d2fc5abf87245d9eade800005d4"
    ),
    "AEAD_AES_256_GCM": RTCP_HEADER
    + hexadecimal(
        "d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b6fad"
        "1d1eb30c4446839f57ff6f6cb26ac3be800005d4"
    ),
}
SRTCP_NOT_ENCRYPTED = {  # sections 17.3 and 17.4: the E flag is 0
    "AEAD_AES_128_GCM": RTCP + hexadecimal("841dd9683dd78ec92ae58790125f62b3000005d4"),
    "AEAD_AES_256_GCM": RTCP + hexadecimal("91db4afbfeee5a978fab4393ed2615fe000005d4"),
}
