"""Builds the native engine: one extension, `relay._native`, from native/."""

from __future__ import annotations

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

debug = os.environ.get("RELAY_DEBUG") == "1"  # the sanitizer build of `make debug-test`
flags = (
    ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    if debug
    else ["-O3", "-g1", "-fno-plt"]
)

setup(
    ext_modules=cythonize(
        [
            Extension(
                "relay._native",
                ["native/_native.pyx"],
                extra_compile_args=["-std=gnu11", "-Wall", *flags],
                extra_link_args=["-fsanitize=address,undefined"] if debug else [],
            )
        ],
        include_path=["native"],
        build_dir="build/cython",
        compiler_directives={"language_level": "3"},
    )
)
