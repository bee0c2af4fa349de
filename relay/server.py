"""The composition root: the only module that knows every layer.

Builds the parts from a configuration, wires them, serves until a signal, and ends calls
in order. Order of start: limits, recordings left by a crash, engine, listeners.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from relay import core_dumps, log
from relay.archive import node_of
from relay.call.admission import Admission
from relay.call.authentication import Authentication
from relay.call.calls import Calls
from relay.call.health import Health
from relay.call.ports import MediaEvent, RecordingEnded
from relay.call.record import Place
from relay.call.registrar import Registrar
from relay.call.registration import Registration
from relay.call.router import Router
from relay.call.token_check import TokenCheck
from relay.call.tokens import Tokens
from relay.config import Config, Http, Media
from relay.errors import ListenError, RelayError
from relay.keeping import Keeping
from relay.media.engine import Engine
from relay.media.port_pool import check_limits
from relay.media.tap import TapReader
from relay.recording.recorder import FileRecorder
from relay.residency.boundary import Boundary
from relay.signalling.endpoint import Endpoint
from relay.signalling.revocation import Revocation
from relay.signalling.tls import Credentials

if TYPE_CHECKING:
    from relay.control.http import HttpServer

STATUS_EVERY_S = 60.0
FLOW_KEEPALIVES = 2  # keep-alives after which a connection is dead: what Flow-Timer tells
STAFF = "[access]"  # whose file of revoked tokens it is, where others are of an account
LAST_BYES_S = 2.0  # for the answers to the BYEs of a shutdown


class Server:
    """One node of a region."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = structlog.get_logger()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_loop_bug)
        self._journal = log.Journal(self._loop.call_later)
        self._keeping = Keeping(config, self._journal)
        self.engine = self._engine(config.media)
        self.recorder = FileRecorder(
            self._keeping.spool,
            TapReader(self.engine.taps),
            self._on_recording_ended,
            self._keeping.archive.keys,
            config.region.id,
        )
        self.calls = self._calls(config)
        flow_timer_s = FLOW_KEEPALIVES * config.sip.websocket.keepalive_s
        self.calls.registrar = Registrar(self.calls, flow_timer_s)
        files = {each.name: each.revoked for each in config.account if each.revoked is not None}
        if config.access.revoked is not None:
            files[STAFF] = config.access.revoked
        self._revocation = Revocation(files, self._on_revoked)
        self._credentials = Credentials(
            config.sip.tls, asks=any(trunk.tls_names for trunk in config.trunk)
        )
        self.endpoint = Endpoint(self.calls, config.sip, self._on_bug, self._credentials)
        self._http = self._http_server(config.http) if config.http is not None else None
        self.calls.health = Health(self.calls, config.trunk)
        self.calls.registrations = tuple(
            Registration(trunk.name, trunk.register_at, self.calls)
            for trunk in config.trunk
            if trunk.register_at is not None
        )

    def _engine(self, media: Media) -> Engine:
        return Engine(
            media.address,
            media.advertise,
            media.ports,
            media.workers,
            media.idle_timeout_s,
            media.address_ipv6,
            self._on_media,
            latch_networks=self._keeping.archive.boundary.permitted,
            advertise_ipv6=media.advertise_ipv6,
        )

    def _calls(self, config: Config) -> Calls:
        """Raises CertificateError for a key of an account that cannot be read."""
        archive = self._keeping.archive
        calls = Calls(
            Router(config),
            Admission(config),
            self.engine,
            self.recorder,
            self._keeping.records,
            self._journal,
            token=lambda: os.urandom(8).hex(),
            wall_clock=lambda: datetime.now(UTC).astimezone(),
            boundary=archive.boundary,
            place=Place(config.region.id, node_of(config), archive.policy),
            pass_headers=config.sip.pass_headers,
            limits=config.limits,
            own=_own_addresses(config),
            ours={
                trunk.name: trunk.outbound_credentials
                for trunk in config.trunk
                if trunk.outbound_credentials is not None
            },
            authentication=_authentication(config, archive.boundary),
            token_check=_token_check(config),
            min_session_expires_s=config.sip.min_session_expires_s,
        )
        calls.outside.audit = archive.audit
        return calls

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT. Raises ListenError or another RelayError at start."""
        _check_media_addresses(self._config.media)
        await self._keeping.check()
        self.engine.start(self._loop)
        self._keeping.records.start()
        self._revocation.watch()
        await self.endpoint.start()
        if self._http is not None:
            await self._http.start()
        await self._keeping.begin()
        self.endpoint.register()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        self._loop.add_signal_handler(signal.SIGUSR1, self._tell_status)
        self._loop.add_signal_handler(signal.SIGHUP, self._credentials.reload)
        self._log.info(
            "serving",
            region=self._config.region.id,
            listen=[str(listen) for listen in self._config.sip.listen],
            media=f"{self._config.media.address}:{self._config.media.ports[0]}-"
            f"{self._config.media.ports[1]}",
            policy=self._keeping.archive.policy,
            signed_by=self._keeping.signed_by,
            recordings=self._config.recording.store,
            http=self._config.http.listen if self._config.http else None,
            pid=os.getpid(),
        )
        status = self._loop.create_task(self._report_status())
        await self._stop.wait()
        status.cancel()
        await self._drain()
        await asyncio.to_thread(self.recorder.close)
        await self._keeping.ship_last()
        if self._http is not None:
            await self._http.close()
        await self._close()

    def _http_server(self, http: Http) -> HttpServer:
        # Imported here: a node without [http] starts without its memory and half a second.
        from relay.control.http import HttpServer, application, page_files

        app = application(
            self._config.region.id,
            self._config.client_urls,
            lambda: self.calls.stopping,
            page_files(),
            self._on_bug,
            self._keeping.api(self._on_bug),
        )
        return HttpServer(*http.address, app)

    async def _drain(self) -> None:
        """New calls get 503; the running ones may end by themselves, then get a BYE."""
        self.calls.stopping = True
        self.endpoint.unregister()
        self._log.info("stopping", calls=len(self.calls.active))
        self._stop.clear()
        await self._until_idle(self._config.sip.drain_s)
        self.endpoint.end_calls()
        self._stop.clear()
        await self._until_idle(LAST_BYES_S)

    async def _until_idle(self, limit_s: float) -> None:
        """Wait until no call is left, a second signal, or the limit."""
        deadline = self._loop.time() + limit_s
        while not self.calls.idle and not self._stop.is_set():
            left = deadline - self._loop.time()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(min(left, 0.1)):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _close(self) -> None:
        self._revocation.close()
        self.endpoint.close()
        await self._keeping.close()
        self.engine.close()
        self._journal.flush()
        self._log.info("stopped", **self._counters())

    def _counters(self) -> dict[str, object]:
        return {
            "sip": dict(self.endpoint.counters),
            "calls": dict(self.calls.counters),
            "guard": dict(self.calls.guard.counters),
            "media": {name: value for name, value in self.engine.counters().items() if value},
            "webrtc": dict(self.engine.webrtc.counters),
            "targets": self.calls.health.figures(),
            "clients": self.calls.registrar.figures(),
            **self._keeping.counters(),
            "registrations": {
                registration.trunk: registration.state.value.lower()
                for registration in self.calls.registrations
            },
        }

    async def _report_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            self._tell_status()

    def _tell_status(self) -> None:
        """Every minute, and when SIGUSR1 asks for it."""
        self._log.info(
            "status",
            enforced=self._keeping.archive.boundary.enforce,
            active=len(self.calls.active),
            dialogs=self.calls.dialogs,
            transactions=self.endpoint.transactions,
            **self._counters(),
        )

    # --- events of the shells, on the loop

    def _on_media(self, call_id: str, event: MediaEvent) -> None:
        self.endpoint.on_media(call_id, event)

    def _on_revoked(self, account: str, ids: Collection[str]) -> None:
        if account == STAFF:
            self._keeping.revoke_staff(ids)
            return
        self.calls.revoke(account, ids, self._loop.time())

    def _on_recording_ended(self, ended: RecordingEnded) -> None:
        """Called by the writer's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._recording_ended, ended)

    def _recording_ended(self, ended: RecordingEnded) -> None:
        self.calls.on_recording_ended(ended)
        self._keeping.on_recording_ended(ended)

    def _on_bug(self, bug: BaseException) -> None:
        self._log.error("bug", exc_info=bug)

    def _on_loop_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught, in the log like all else: its numbers are masked there."""
        bug = context.get("exception")
        self._log.error("bug", problem=str(context.get("message")), exc_info=bug or False)

    def _on_signal(self) -> None:
        self._stop.set()


def _authentication(config: Config, boundary: Boundary) -> Authentication:
    """Of trunks, by their passwords."""
    sip = config.sip
    realm = sip.realm or config.region.id
    return Authentication(config.trunk, realm, boundary, os.urandom(32), sip.digest_algorithms)


def _token_check(config: Config) -> TokenCheck | None:
    """Raises CertificateError for a public key that cannot be read any more."""
    if not config.account:
        return None
    keys = {(each.name, key.id): key.read() for each in config.account for key in each.keys}
    tokens = Tokens(config.region.id, config.account, keys, lambda: datetime.now(UTC))
    return TokenCheck(tokens, config.sip.realm or config.region.id, os.urandom(32))


def _own_addresses(config: Config) -> tuple[str, ...]:
    """Where this node itself may be seen to send from."""
    sip, media = config.sip, config.media
    ours = {media.address, media.address_ipv6, media.advertise, media.advertise_ipv6}
    ours |= {sip.advertise, sip.advertise_ipv6, *(listen.host for listen in sip.listen)}
    return tuple(filter(None, ours))


def _check_media_addresses(media: Media) -> None:
    """Raises ListenError for one that is not this machine's: every call would get 503."""
    for key in ("address", "address_ipv6"):
        host = getattr(media, key)
        if host is None:
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0))
        except OSError as error:
            raise ListenError(
                f"cannot use media.{key} {host}: {error.strerror}; "
                "`ip address` shows the addresses of this machine"
            ) from error


def _tune_collector() -> None:
    """Calls undo their reference cycles when they end: there is little for it to find."""
    gc.collect()
    gc.freeze()  # what start-up made is never looked at again
    gc.set_threshold(10_000, 10, 10)


def run(config: Config) -> int:
    """Serve; returns the exit code: 0 stopped by a signal, 1 could not start."""
    core_dumps.forbid()
    log.configure(config.log)
    logger = structlog.get_logger()
    clients = sum(account.clients for account in config.account)
    problems = check_limits(config.media.ports, config.concurrent_calls, clients)
    for problem in problems:
        logger.warning("limit_too_small", problem=problem)

    _tune_collector()

    async def main() -> int:
        try:
            await Server(config).serve()
        except RelayError as error:
            logger.error("cannot_start", problem=str(error))
            return 1
        return 0

    return uvloop.run(main())
