"""Recordings in a bucket of an S3-compatible store inside the region.

Nothing is overwritten: a small object is put on the condition that there is none of its name; a
large one goes in parts, after a claim on its name was put so. What was put is read back and
compared before it counts, so a store that ignores conditions or damages objects is found out.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from relay.config.kept import S3
from relay.errors import NotStored, StoreAway, StoreConflict, StoreError
from relay.recording import s3_request
from relay.recording.directory import Stored, digest_of
from relay.recording.gate import Gate
from relay.residency.boundary import Boundary

if TYPE_CHECKING:
    from obstore.store import S3Credential

LARGE_OCTETS = 16 << 20
"""From here on an object goes in parts: about 17 minutes of two channels of G.711."""
PART_OCTETS = 8 << 20
PARTS_AT_ONCE = 2
REQUEST_S = 60
RETRIES = 1  # a single hiccup; the shipper has patience for more
CLAIM = ".claim"
UNCONDITIONAL = (
    "it ignores conditions (If-None-Match): of two writers of one name the second would win; "
    "names hold the call's id, so there should be no two"
)
UNLISTED = (
    "it cannot list unfinished uploads: parts of a recording that was deleted while it was put stay"
)
_STATUS = re.compile(r"(?:status|with status|Status)\D{0,12}(\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Bucket:
    """A `relay.recording.store.Place`. `url` is s3://BUCKET/PREFIX."""

    def __init__(self, url: str, s3: S3, boundary: Boundary) -> None:
        self._name, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = prefix.strip("/")
        self._s3 = s3
        self._host, self._port = s3.address
        self._gate = Gate(self._host, self._port, boundary)
        self._opening = asyncio.Lock()
        self._client: S3Store | None = None
        self._tls: ssl.SSLContext

    def url(self, name: str) -> str:
        return "/".join(filter(None, (f"s3://{self._name}", self._prefix, name)))

    async def check(self) -> None:
        """Raises OutsideRegion, StoreError when the bucket is in another territory, StoreAway."""
        try:
            await self._gate.addresses()
        except OSError as error:
            raise StoreAway(
                f"the store's name {self._host} is not found: {error.strerror}"
            ) from error
        document = await self._ask("GET", "", {"location": ""})
        if document is None:
            raise StoreError(f"the bucket {self._name} does not say where it is")
        # The oldest region has no name there, the second oldest another one.
        found = document.text or "us-east-1"
        found = {"EU": "eu-west-1"}.get(found, found)
        if found != self._s3.region:
            raise StoreError(
                f"the bucket {self._name} is in {found}; recording.s3.region says that it must be "
                f"in {self._s3.region}"
            )

    async def probe(self) -> list[str]:
        await self.check()
        client, lacks = await self._opened(), []
        name, content = f"check-{secrets.token_hex(8)}", secrets.token_bytes(64)
        with self._failures(name):
            await obstore.put_async(client, name, content, mode="create")
            found = bytes(await (await obstore.get_async(client, name)).bytes_async())
            with suppress(AlreadyExistsError, PreconditionError):
                await obstore.put_async(client, name, content, mode="create")
                lacks.append(UNCONDITIONAL)
            await obstore.delete_async(client, name)
        if found != content:
            raise StoreError("the store gives back something else than what was put")
        if await self._ask("GET", "", {"uploads": ""}) is None:
            lacks.append(UNLISTED)
        return lacks

    async def put(self, name: str, source: Path) -> None:
        client = await self._opened()
        digest, octets = await asyncio.to_thread(_measured, source)
        if await self._has(client, name):
            await self._compare(client, name, digest, octets, ours=False)
            return
        with self._failures(name):
            try:
                if octets < LARGE_OCTETS:
                    await obstore.put_async(client, name, source, mode="create")
                else:
                    await self._put_large(client, name, source, digest)
                ours = True
            except (AlreadyExistsError, PreconditionError):
                ours = False
            except FileNotFoundError:
                raise StoreAway(f"the bucket {self._name} is gone") from None
        await self._compare(client, name, digest, octets, ours)

    async def get(self, name: str, start: int, end: int | None) -> bytes:
        client = await self._opened()
        with self._failures(name):
            size = (await obstore.head_async(client, name))["size"]
            end = size if end is None else min(end, size)
            if start >= end:
                return b""
            return bytes(await obstore.get_range_async(client, name, start=start, end=end))

    async def stat(self, name: str) -> Stored:
        client = await self._opened()
        with self._failures(name):
            found = await obstore.head_async(client, name)
        return Stored(name, found["size"], "store", found["last_modified"])

    async def delete(self, name: str) -> bool:
        client = await self._opened()
        found = await self._has(client, name)
        with self._failures(name):
            for each in (name, name + CLAIM):
                await obstore.delete_async(client, each)
        return await self._abort_uploads(name) or found

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        client = await self._opened()
        folder = prefix.rpartition("/")[0]
        with self._failures(prefix):
            async for batch in obstore.list(client, folder or None):
                for each in batch:
                    if each["path"].startswith(prefix) and not each["path"].endswith(CLAIM):
                        yield Stored(each["path"], each["size"], "store", each["last_modified"])

    async def close(self) -> None:
        self._client = None
        await self._gate.close()

    async def _opened(self) -> S3Store:
        async with self._opening:
            if self._client is None:
                await self._gate.open()
                try:
                    self._tls = ssl.create_default_context(cafile=self._s3.ca)
                    self._client = self._connect()
                except OSError as error:  # of ssl, too
                    raise StoreAway(f"recording.s3.ca: {self._s3.ca}: {error.strerror}") from error
            return self._client

    def _connect(self) -> S3Store:
        s3 = self._s3
        client: dict[str, object] = {
            "proxy_url": self._gate.url,
            "allow_http": False,
            "allow_invalid_certificates": False,
            "timeout": timedelta(seconds=REQUEST_S),
            "connect_timeout": timedelta(seconds=5),
        }
        if s3.ca is not None:
            client["root_certificate"] = Path(s3.ca).read_bytes()
        # All that the environment could say otherwise (AWS_…) is said here.
        config: dict[str, object] = {
            "endpoint": s3.endpoint,
            "aws_endpoint_url_s3": s3.endpoint,  # of the two, the one that counts
            "region": s3.region,
            "virtual_hosted_style_request": False,
            "disable_bulk_delete": True,
            "checksum_algorithm": "SHA256",
            "skip_signature": False,
            "unsigned_payload": False,
            "conditional_put": "etag",
        }
        return S3Store(
            self._name,
            prefix=self._prefix or None,
            config=config,  # type: ignore[arg-type]
            client_options=client,  # type: ignore[arg-type]
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=REQUEST_S)},
            credential_provider=self._credentials,
        )

    def _credentials(self) -> S3Credential:
        secret = self._s3.secret_key.get_secret_value()
        return {
            "access_key_id": self._s3.access_key,
            "secret_access_key": secret,
            "token": None,
            "expires_at": None,
        }

    async def _has(self, client: S3Store, name: str) -> bool:
        with self._failures(name):
            try:
                await obstore.head_async(client, name)
            except FileNotFoundError:
                return False
        return True

    async def _put_large(self, client: S3Store, name: str, source: Path, digest: str) -> None:
        """In parts, which know no condition: who claims the name first may put it."""
        claim = name + CLAIM
        try:
            await obstore.put_async(client, claim, digest.encode(), mode="create")
        except (AlreadyExistsError, PreconditionError):
            holder = bytes(await (await obstore.get_async(client, claim)).bytes_async())
            if holder.decode("ascii", "replace") != digest:
                raise StoreConflict(f"another object is about to be called {name}") from None
        if not await self._has(client, name):  # put before we claimed it
            await self._abort_uploads(name)  # of ours, before we died
            await obstore.put_async(
                client,
                name,
                source,
                use_multipart=True,
                chunk_size=PART_OCTETS,
                max_concurrency=PARTS_AT_ONCE,
            )
        await obstore.delete_async(client, claim)

    async def _compare(
        self, client: S3Store, name: str, digest: str, octets: int, ours: bool
    ) -> None:
        """Read it back. What differs is left as it is, even if we put it: where conditions are
        ignored it may be another writer's by now."""
        found, size = hashlib.sha256(), 0
        with self._failures(name):
            async for piece in (await obstore.get_async(client, name)).stream():
                found.update(piece)
                size += len(piece)
        if (found.hexdigest(), size) != (digest, octets):
            raise StoreConflict(
                f"{name} in the store has not the checksum of what was sent: it is damaged"
                if ours
                else f"another object is called {name}"
            )

    async def _abort_uploads(self, name: str) -> bool:
        """Those of an object that were begun and never completed; whether there were any."""
        key = f"{self._prefix}/{name}" if self._prefix else name
        document = await self._ask("GET", "", {"uploads": "", "prefix": key})
        found = False
        for upload in document.iter(f"{_XML}Upload") if document is not None else ():
            if upload.findtext(f"{_XML}Key") == key:
                query = {"uploadId": upload.findtext(f"{_XML}UploadId") or ""}
                await self._ask("DELETE", key, query)
                found = True
        return found

    async def _ask(self, method: str, key: str, query: dict[str, str]) -> Element | None:
        await self._opened()
        gate = self._gate
        way = s3_request.Way(self._host, self._port, gate.port, gate.authorization, self._tls)
        secret = self._s3.secret_key.get_secret_value()
        credentials = s3_request.Credentials(self._s3.access_key, secret, self._s3.region)
        path = f"/{self._name}/{key}" if key else f"/{self._name}"
        return await asyncio.to_thread(s3_request.ask, way, method, path, query, credentials)

    @contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        """What the client raises, as ours; its own texts hold whole requests."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotStored(f"{name} is not in the store") from error
        except BaseError as error:
            raise self._gate.refused or StoreAway(_why(error)) from error


def _measured(path: Path) -> tuple[str, int]:
    try:
        return digest_of(path), path.stat().st_size
    except FileNotFoundError as error:
        raise NotStored(f"{path.name} is not in the spool") from error


def _why(error: BaseError) -> str:
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status or code:
        words = " ".join(found[1] for found in (status, code) if found)
        return f"the store answers {words}"
    return "the store does not answer"
