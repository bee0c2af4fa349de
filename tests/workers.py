"""Several tests at once: what pytest-xdist's workers need so that they never meet.

Most of the long tests wait for audio to be spoken, so there are more workers than processors.
Each has a network of its own (a namespace of the kernel), where every port is free.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import struct
import subprocess
import sys

from xdist.scheduler.loadscope import LoadScopeScheduling

A_PROCESSOR = 2
MOST = 8
ONE_BY_ONE = "tests/interop/"  # no fixture there costs more than a test
BROWSERS = "tests/browser/"  # two at a time are enough for a machine
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
IFREQ = "16sh22x"  # its name, its flags


def how_many() -> int:
    return min(A_PROCESSOR * (os.cpu_count() or 1), MOST)


def command() -> list[str]:
    """What starts a program in a new network namespace, as the user who runs the tests."""
    user = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    return ["unshare", *user, "--net", "--"]


def refusal() -> str | None:
    """Why this machine gives no network namespace; None when it does."""
    try:
        subprocess.run([*command(), "true"], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    except OSError as error:
        return str(error)
    return None


def interpreter() -> str:
    """This Python in a new network namespace, as execnet's `python=` has it."""
    return shlex.join([*command(), sys.executable])


def bring_up_loopback() -> None:
    """A new namespace has it, but down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        wanted = struct.pack(IFREQ, b"lo", 0)
        flags = struct.unpack(IFREQ, fcntl.ioctl(control, SIOCGIFFLAGS, wanted))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack(IFREQ, b"lo", flags | IFF_UP))


class Scheduler(LoadScopeScheduling):
    """What goes to the same worker: a file, with its fixtures, or everything that has browsers."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ONE_BY_ONE):
            return nodeid
        return BROWSERS if nodeid.startswith(BROWSERS) else nodeid.partition("::")[0]
