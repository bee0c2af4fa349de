"""Builds the native engine: one extension, `relay._native`, from native/."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

debug = os.environ.get("RELAY_DEBUG") == "1"  # the sanitizer build of `make debug-test`
flags = (
    ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    if debug
    else ["-O3", "-g1", "-fno-plt"]
)


def libcrypto(option: str) -> list[str]:
    """What pkg-config says of libcrypto, which is linked directly."""
    command = ["pkg-config", option, "libcrypto >= 3.0"]
    try:
        return shlex.split(subprocess.check_output(command, text=True))
    except (OSError, subprocess.CalledProcessError):
        sys.exit("OpenSSL 3 is needed: install pkg-config and libssl-dev")


def opus(option: str) -> list[str]:
    """What pkg-config says of libopus; nothing when it is not there: no transcoding then."""
    try:
        return shlex.split(subprocess.check_output(["pkg-config", option, "opus"], text=True))
    except (OSError, subprocess.CalledProcessError):
        return []


def compile_native() -> list[Extension]:
    """Cython to C. A function on the packet path that would take the GIL fails the build."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            extensions = cythonize(
                [
                    Extension(
                        "relay._native",
                        ["native/_native.pyx"],
                        depends=glob("native/*.px[di]"),
                        extra_compile_args=[
                            *("-std=gnu11", "-Wall", *flags),
                            *libcrypto("--cflags"),
                            *(["-DRELAY_OPUS"] if opus("--libs") else []),
                            *opus("--cflags"),
                        ],
                        extra_link_args=[
                            *(["-fsanitize=address,undefined"] if debug else []),
                            *libcrypto("--libs"),
                            *opus("--libs"),
                        ],
                    )
                ],
                include_path=["native"],
                build_dir="build/cython",
                compiler_directives={"language_level": "3", "cdivision": True},
            )
    finally:
        sys.stderr.write(said.getvalue())
    if "always require the GIL" in said.getvalue():
        for generated in extensions[0].sources:
            os.remove(generated)  # or the next build would take it as up to date
        sys.exit("native/: a nogil function would take the GIL (see the hints above)")
    return extensions


setup(ext_modules=compile_native())
