"""The peers of bench (b), each between CALLER and CALLEE: sippy's B2BUA and Kamailio."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.common import CALLEE, RELAY, ROOT, wait_bound

SIPPY = ROOT / "build/peers/sippy"

KAMAILIO = """
#!KAMAILIO
debug=0
log_stderror=yes
children=1
auto_aliases=no
disable_tcp=yes
listen=udp:{host}:{port}
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
request_route {{
    if (!mf_process_maxfwd_header("70")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here");
        exit;
    }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    t_check_trans();
    if (is_method("INVITE")) record_route();
    $du = "sip:{callee}";
    t_relay();
}}
"""


def install_sippy() -> Path:
    """The program `b2bua_simple`, installed from PyPI into an environment of its own."""
    program = SIPPY / "bin/b2bua_simple"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(SIPPY)], check=True)
        pip = [str(SIPPY / "bin/python"), "-m", "pip", "install", "-q", "sippy"]
        subprocess.run(pip, check=True, stdout=sys.stderr)
    return program


@contextlib.contextmanager
def sippy() -> Iterator[int]:
    """sippy's B2BUA without media, as its authors measure it. Yields the process id."""
    host, port = RELAY
    command = [str(install_sippy()), "-f", "-l", host, "-p", str(port), "-L", "/dev/null"]
    command += ["-n", f"{CALLEE[0]}:{CALLEE[1]}"]
    with _running(command) as pid:
        yield pid


@contextlib.contextmanager
def kamailio() -> Iterator[int]:
    """Kamailio as a stateful proxy that stays in the dialog (Record-Route)."""
    host, port = RELAY
    with tempfile.TemporaryDirectory(prefix="relay-kamailio-") as directory:
        config = Path(directory) / "kamailio.cfg"
        config.write_text(
            KAMAILIO.format(host=host, port=port, callee=f"{CALLEE[0]}:{CALLEE[1]}").lstrip()
        )
        command = ["kamailio", "-DD", "-E", "-f", str(config), "-Y", directory]
        with _running([*command, "-P", f"{directory}/pid", "-m", "64"]) as pid:
            yield pid


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[int]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_bound(*RELAY)
            yield process.pid
        except TimeoutError:
            log.seek(0)
            raise RuntimeError(log.read().decode(errors="replace")) from None
        finally:
            process.terminate()
            process.wait(10)
