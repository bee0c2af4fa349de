"""SRTP protect and unprotect alone, packets of 172 octets, alternating with libsrtp.

    python -m bench.srtp_ops [--packets 30000] [--rounds 7]

Nanoseconds of CPU of one thread, the median of the rounds; ours includes reading the header
and copying the result back. libsrtp is the one inside of pylibsrtp, called from C by its
exported functions, so no Python is measured; the result says which version over which OpenSSL.
Each side opens what the other closed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import statistics
import struct
import subprocess
import sys
import sysconfig
from types import ModuleType
from typing import Any

from bench import common

OCTETS = 172
STRIDE = 256
TARGET_NS = 600
# (AEAD, key, salt, tag, SRTCP tag) in octets
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (0, 16, 14, 10, 10),
    "AES_CM_128_HMAC_SHA1_32": (0, 16, 14, 4, 10),
    "AES_256_CM_HMAC_SHA1_80": (0, 32, 14, 10, 10),
    "AEAD_AES_128_GCM": (1, 16, 12, 16, 16),
    "AEAD_AES_256_GCM": (1, 32, 12, 16, 16),
}
PROFILE_FUNCTIONS = {  # of libsrtp, for SRTP
    "AES_CM_128_HMAC_SHA1_80": "srtp_crypto_policy_set_rtp_default",
    "AES_CM_128_HMAC_SHA1_32": "srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32",
    "AES_256_CM_HMAC_SHA1_80": "srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80",
    "AEAD_AES_128_GCM": "srtp_crypto_policy_set_aes_gcm_128_16_auth",
    "AEAD_AES_256_GCM": "srtp_crypto_policy_set_aes_gcm_256_16_auth",
}


def loops() -> ModuleType:
    """bench/native/srtp_ops.pyx with the engine's own source, built with its flags."""
    build = common.ROOT / "build/bench"
    build.mkdir(parents=True, exist_ok=True)
    native, source = common.ROOT / "native", common.ROOT / "bench/native/srtp_ops.pyx"
    program = build / ("srtp_ops" + sysconfig.get_config_var("EXT_SUFFIX"))
    newest = max(path.stat().st_mtime for path in (source, *native.glob("*.pxd")))
    if not program.exists() or program.stat().st_mtime < newest:
        c = build / "srtp_ops.c"
        cython = [sys.executable, "-m", "cython", "-3", "-I", str(native), str(source)]
        subprocess.run([*cython, "-o", str(c)], check=True, stdout=sys.stderr)
        include = sysconfig.get_path("include")
        flags = ["-O3", "-fno-plt", "-std=gnu11", "-shared", "-fPIC", f"-I{include}"]
        command = ["cc", *flags, str(c), "-o", str(program), "-lcrypto"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    spec = importlib.util.spec_from_file_location("srtp_ops", program)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Libsrtp:
    """Sessions of the libsrtp inside of pylibsrtp, and the addresses of its functions."""

    def __init__(self) -> None:
        import pylibsrtp
        from pylibsrtp import _binding

        self._pylibsrtp, self._ffi = pylibsrtp, _binding.ffi
        self._library = ctypes.CDLL(_binding.__file__)

    def version(self) -> str:
        self._library.srtp_get_version_string.restype = ctypes.c_char_p
        self._library.OpenSSL_version.restype = ctypes.c_char_p
        names = (self._library.srtp_get_version_string(), self._library.OpenSSL_version(0))
        return " over ".join(name.decode() for name in names)

    def session(self, suite: str, key: bytes, sends: bool) -> Any:
        policy = self._pylibsrtp.Policy(
            ssrc_type=self._pylibsrtp.Policy.SSRC_ANY_OUTBOUND
            if sends
            else self._pylibsrtp.Policy.SSRC_ANY_INBOUND
        )
        part = self._ffi.addressof(policy._policy.rtp)
        set_suite = getattr(self._library, PROFILE_FUNCTIONS[suite])
        set_suite(ctypes.c_void_p(int(self._ffi.cast("intptr_t", part))))
        policy.key = key + bytes(max(0, 30 - len(key)))
        policy.window_size = 128
        return self._pylibsrtp.Session(policy)

    def address(self, name: str) -> int:
        return ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value or 0

    def pointer(self, session: Any) -> int:
        return int(self._ffi.cast("intptr_t", session._srtp[0]))


def stream(count: int) -> bytearray:
    """Packets of one stream, `STRIDE` apart."""
    data = bytearray(STRIDE * count)
    payload = os.urandom(OCTETS - 12)
    for i in range(count):
        head = struct.pack("!BBHII", 0x80, 0, i % 65536, 160 * i % 2**32, 7)
        data[STRIDE * i : STRIDE * i + OCTETS] = head + payload
    return data


def one_round(loop: ModuleType, libsrtp: Libsrtp, suite: str, count: int) -> dict[str, float]:
    """Nanoseconds per packet of each operation."""
    shape = SUITES[suite]
    key, salt = os.urandom(shape[1]), os.urandom(shape[2])
    plain = stream(count)
    used: dict[str, float] = {}

    def run_ours(sends: bool, data: bytearray, octets: int) -> int:
        ns, size = loop.ours(shape, key, salt, sends, data, STRIDE, octets, count)
        used["protect" if sends else "unprotect"] = ns / count
        return int(size)

    def run_theirs(sends: bool, data: bytearray, octets: int) -> int:
        name = "protect" if sends else "unprotect"
        session = libsrtp.session(suite, key + salt, sends)
        function = libsrtp.address(f"srtp_{name}")
        ns, size = loop.theirs(function, libsrtp.pointer(session), data, STRIDE, octets, count)
        used[f"libsrtp_{name}"] = ns / count
        return int(size)

    for close, open_it in ((run_ours, run_theirs), (run_theirs, run_ours)):
        data = bytearray(plain)
        size = close(True, data, OCTETS)
        if open_it(False, data, size) != OCTETS or data[:OCTETS] != plain[:OCTETS]:
            raise RuntimeError(f"{suite}: what one side closed the other does not open")
    return used


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=30000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    loop, libsrtp = loops(), Libsrtp()
    results = {}
    for suite in SUITES:
        rounds = [one_round(loop, libsrtp, suite, options.packets) for _ in range(options.rounds)]
        results[suite] = {
            name: round(statistics.median(each[name] for each in rounds)) for name in rounds[0]
        }
    slowest = max(max(r["protect"], r["unprotect"]) for r in results.values())
    common.report(
        "srtp_ops",
        octets=OCTETS,
        ns_per_packet=results,
        slowest_ns=slowest,
        target_ns=TARGET_NS,
        peer=libsrtp.version(),
    )
    return 0 if slowest <= TARGET_NS else 1


if __name__ == "__main__":
    sys.exit(main())
