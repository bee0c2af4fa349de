"""The composition root: the only module that knows every layer.

Builds the parts from a configuration, wires them, serves until a signal, and ends calls
in order. Order of start: limits, recordings left by a crash, engine, listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from relay import __version__, core_dumps, log
from relay.archive import Archive, node_of
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
from relay.database.postgres import check_host
from relay.database.queue import RecordQueue
from relay.database.queue_file import QueueFile
from relay.database.session import Database
from relay.errors import (
    AuditUnavailable,
    KeyMissing,
    ListenError,
    ManifestRefused,
    RelayError,
)
from relay.media.engine import Engine
from relay.media.port_pool import check_limits
from relay.media.tap import TapReader
from relay.recording.recorder import FileRecorder
from relay.recording.repair import repair_all
from relay.recording.shipper import Shipper
from relay.recording.spool import check_writable
from relay.residency.audit import RELAY
from relay.residency.boundary import Boundary
from relay.signalling.endpoint import Endpoint
from relay.signalling.revocation import Revocation
from relay.signalling.tls import Credentials
from relay.upkeep import Upkeep

if TYPE_CHECKING:
    from relay.control.access import Access
    from relay.control.http import HttpServer

STATUS_EVERY_S = 60.0
FLOW_KEEPALIVES = 2  # keep-alives after which a connection is dead: what Flow-Timer tells
LAST_SHIPPED_S = 5.0  # for the recordings of the last calls to get to their place
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
        self._archive = Archive(config)
        self._signed_by = self._check_manifest()
        boundary = self._archive.boundary
        media = config.media
        self.engine = Engine(
            media.address,
            media.advertise,
            media.ports,
            media.workers,
            media.idle_timeout_s,
            media.address_ipv6,
            self._on_media,
            latch_networks=boundary.permitted,
            advertise_ipv6=media.advertise_ipv6,
        )
        self._journal = log.Journal(self._loop.call_later)
        self._spool = Path(config.recording.spool)
        self._check_keys()
        self.record_queue = self._queue_of_records(boundary)
        self._repair()
        self._shipper = Shipper(self._archive.store, self._journal)
        self._upkeep = Upkeep(self._archive)
        self.recorder = FileRecorder(
            self._spool,
            TapReader(self.engine.taps),
            self._on_recording_ended,
            self._archive.keys,
            config.region.id,
        )
        self.calls = Calls(
            Router(config),
            Admission(config),
            self.engine,
            self.recorder,
            self.record_queue,
            self._journal,
            token=lambda: os.urandom(8).hex(),
            wall_clock=lambda: datetime.now(UTC).astimezone(),
            boundary=boundary,
            place=Place(config.region.id, node_of(config), self._archive.policy),
            pass_headers=config.sip.pass_headers,
            limits=config.limits,
            own=_own_addresses(config),
            ours={
                trunk.name: trunk.outbound_credentials
                for trunk in config.trunk
                if trunk.outbound_credentials is not None
            },
            authentication=_authentication(config, boundary),
            token_check=_token_check(config),
            min_session_expires_s=config.sip.min_session_expires_s,
        )
        self.calls.outside.audit = self._archive.audit
        self._archive.audit.on_checkpoint = self._archive.anchors.offer
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
        self._access: Access | None = None
        self._http = self._http_server(config.http) if config.http is not None else None
        self.calls.health = Health(self.calls, config.trunk)
        self.calls.registrations = tuple(
            Registration(trunk.name, trunk.register_at, self.calls)
            for trunk in config.trunk
            if trunk.register_at is not None
        )

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT. Raises ListenError or another RelayError at start."""
        _check_media_addresses(self._config.media)
        if self._records:
            await self._check_store()
        if not self._archive.database.is_embedded:
            await check_host(self._config.database, self._archive.boundary)
        self.engine.start(self._loop)
        self.record_queue.start()
        self._revocation.watch()
        await self.endpoint.start()
        if self._http is not None:
            await self._http.start()
        await self._upkeep.open()
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
            policy=self._archive.policy,
            signed_by=self._signed_by,
            recordings=self._config.recording.store,
            http=self._config.http.listen if self._config.http else None,
            pid=os.getpid(),
        )
        self._archive.audit.note(
            "relay-started", RELAY, version=__version__, policy=self._archive.policy
        )
        if not self._archive.boundary.enforce:
            networks = [str(network) for network in self._config.region.networks]
            self._log.warning("boundary_not_enforced", networks=networks)
        status = self._loop.create_task(self._report_status())
        shipping = self._loop.create_task(self._shipper.run())
        upkeep = self._loop.create_task(self._upkeep.run())
        await self._stop.wait()
        status.cancel()
        upkeep.cancel()
        await self._drain()
        await self._end_recordings(shipping)
        if self._http is not None:
            await self._http.close()
        await self._archive.database.close()
        await self._close()

    def _check_manifest(self) -> str:
        """Who signed it, or "". Raises ManifestRefused, of which the audit log hears, or
        KeyMissing."""
        try:
            return self._archive.check_manifest()
        except ManifestRefused:
            with contextlib.suppress(AuditUnavailable):
                self._archive.audit.enter("manifest-refused", RELAY, policy=self._archive.policy)
            raise

    def _http_server(self, http: Http) -> HttpServer:
        # Imported here: a node without [http] starts without its memory and half a second.
        from relay.control.access import Access
        from relay.control.api import api
        from relay.control.http import HttpServer, application, page_files

        archive = self._archive
        self._access = Access(
            *(archive.staff_tokens(), archive.reading, archive.granting, archive.audit),
            *(lambda: datetime.now(UTC), self._on_bug),
        )
        app = application(
            self._config.region.id,
            self._config.client_urls,
            lambda: self.calls.stopping,
            page_files(),
            self._on_bug,
            api(self._access),
        )
        return HttpServer(*http.address, app)

    def _check_keys(self) -> None:
        """Without keys a region carries calls and records none."""
        try:
            self._archive.keys.check()
        except KeyMissing as missing:
            self._log.warning("keys_missing", problem=str(missing))
            self._archive.audit.note("keys-missing", RELAY)

    def _queue_of_records(self, boundary: Boundary) -> RecordQueue:
        """Raises StoreError. Its thread has a connection to the database of its own."""
        settings = self._config.database
        return RecordQueue(
            QueueFile(Path(settings.queue)),
            Database(settings, boundary),
            self._archive.keys,
            node_of(self._config),
            settings.queue_records,
            self._archive.receipt,
        )

    def _repair(self) -> None:
        """Look after the spool before anything is served. Raises StoreError."""
        if self._records:
            check_writable(self._spool)
        for found in repair_all(self._spool, self._archive.keys):
            self._log.warning(
                "recording_repaired",
                call=found.call_id,
                path=str(found.path),
                duration_s=round(found.duration_s, 3),
                problem=found.problem,
            )
            if found.record is not None:
                self.record_queue.repaired(found.call_id, found.record)

    @property
    def _records(self) -> bool:
        return any(peer.recording != "do-not-record" for peer in self._config.peers)

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

    async def _check_store(self) -> None:
        """Raises RelayError for one that may never be used."""
        try:
            await self._shipper.check()
        except RelayError:
            with contextlib.suppress(AuditUnavailable):
                self._archive.audit.enter("store-refused", RELAY, self._config.recording.store)
            raise

    async def _end_recordings(self, shipping: asyncio.Task[None]) -> None:
        """Close what runs and ship it; what its place does not take stays in the spool."""
        await asyncio.to_thread(self.recorder.close)
        await self._shipper.finish(LAST_SHIPPED_S)
        shipping.cancel()
        await self._archive.store.close()

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
        await asyncio.to_thread(self.record_queue.close)
        self.engine.close()
        self._journal.flush()
        self._archive.audit.note("relay-stopped", RELAY)
        self._archive.audit.close()
        self._archive.anchors.close()
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
            "store": {"waiting": self._shipper.waiting, **self._shipper.counters},
            "audit": {**self._archive.audit.counters, **self._archive.anchors.counters},
            "access": dict(self._access.counters) if self._access is not None else {},
            "records": {"waiting": self.record_queue.waiting, **self.record_queue.counters},
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
            enforced=self._archive.boundary.enforce,
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
            if self._access is not None:
                self._access.tokens.revoked = ids
            return
        self.calls.revoke(account, ids, self._loop.time())

    def _on_recording_ended(self, ended: RecordingEnded) -> None:
        """Called by the writer's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._recording_ended, ended)

    def _recording_ended(self, ended: RecordingEnded) -> None:
        self.calls.on_recording_ended(ended)
        if ended.record is not None and ended.record.object:
            self._shipper.add(ended.record.object)

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
