"""Calling the bundle service: identity, bundles by long poll, status."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.sidecar.trust import Trust, TrustError

if TYPE_CHECKING:
    from sluice_proxy.bundles.model import Bundle

log = structlog.get_logger(__name__)

POLL_S: Final = 50
"""Below the minute that the service grants, and that load balancers usually do."""
ANSWER_S: Final = 10.0
DOCUMENT_BYTES_MAX: Final = 1 << 20
KEEP_ALIVE_S: Final = 60.0
"""Above the 30 s between reports: they stay with one replica."""
_ETAG: Final = re.compile(r'"(\d{1,18})-[0-9a-f]{16}"\Z')


class RemoteError(Exception):
    """The bundle service did not answer as asked. The message says what it said, never the token."""

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class Remote:
    """One sidecar's way to the bundle service."""

    def __init__(self, url: str, token_path: Path, trust: Trust) -> None:
        """Make one; nothing is opened yet.

        Args:
            url: Of the bundle service.
            token_path: Where the kubelet keeps the token; read anew for each request.
            trust: The CAs to begin with.
        """
        self._url = url
        self._token_path = token_path
        self._trust = trust
        self._http: dict[str, aiohttp.ClientSession] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._begun: dict[str, asyncio.Task[Any]] = {}

    @property
    def trust(self) -> Trust:
        """The CAs that hold now."""
        return self._trust

    def token(self) -> str:
        """Return the token of this moment.

        Raises:
            RemoteError: There is none.
        """
        try:
            return self._token_path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteError(f"the token {self._token_path} cannot be read: {error}") from error

    def begin(self) -> None:
        """Ask for the identity and the first bundle now; whoever asks first is given what came of it."""
        self._begun = {
            "identity": asyncio.create_task(self._ask_identity(), name="first-identity"),
            "bundle": asyncio.create_task(self._ask_bundle(None, POLL_S), name="first-bundle"),
        }

    async def close(self) -> None:
        """Close the connections."""
        for task in self._begun.values():
            task.cancel()
        await asyncio.gather(*self._begun.values(), return_exceptions=True)
        self._retire_connections()
        await asyncio.gather(*self._closing)

    def follow_trust(self, bundle: Bundle) -> None:
        """Trust from now on what a verified bundle carries, and nothing else; without it, nothing changes."""
        if bundle.trust is None:
            return
        try:
            trust = Trust.of(bundle.trust)
        except TrustError as error:
            log.error("trust of the bundle passed over", **{keys.REASON: str(error)})  # noqa: TRY400
            return
        if trust.ca_pem == self._trust.ca_pem:
            return
        self._trust = trust
        log.info("certificate authorities followed", **{keys.SEQUENCE: bundle.sequence})
        # The next request makes connections under the new ones.
        self._retire_connections()

    def _retire_connections(self) -> None:
        old, self._http = self._http, {}
        for http in old.values():
            task = asyncio.create_task(http.close(), name="old-connections")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def identity(self) -> Any:
        """Return the identity document.

        Raises:
            RemoteError: There is none now.
        """
        begun = self._begun.pop("identity", None)
        return await (begun or self._ask_identity())

    async def _ask_identity(self) -> Any:
        async with self._ask("GET", "/v1/identity", ANSWER_S) as answer:
            await _require(answer, 200)
            return await answer.json()

    async def bundle(self, etag: str | None, wait_s: int) -> tuple[bytes, str] | None:
        """Return a bundle and its entity tag; None when there is no other than ``etag`` names.

        Raises:
            RemoteError: The service did not answer.
        """
        begun = self._begun.pop("bundle", None) if etag is None else None
        return await (begun or self._ask_bundle(etag, wait_s))

    async def _ask_bundle(self, etag: str | None, wait_s: int) -> tuple[bytes, str] | None:
        headers = {"Prefer": f"wait={wait_s}"}
        if etag is not None:
            headers["If-None-Match"] = etag
        async with self._ask("GET", "/v1/bundle", wait_s + ANSWER_S, headers=headers) as answer:
            if answer.status == 304:
                return None
            await _require(answer, 200)
            # Here, for the way to the service begins before everything else is imported.
            from sluice_proxy.bundles.verify import BUNDLE_BYTES_MAX  # noqa: PLC0415

            raw = await answer.content.read(BUNDLE_BYTES_MAX + 1)
            while not answer.content.at_eof() and len(raw) <= BUNDLE_BYTES_MAX:
                raw += await answer.content.read(BUNDLE_BYTES_MAX + 1 - len(raw))
            return raw, answer.headers.get("ETag", "")

    async def status(self, document: Mapping[str, Any]) -> None:
        """Report what is in force.

        Raises:
            RemoteError: It was not taken.
        """
        async with self._ask("POST", "/v1/status", ANSWER_S, json=dict(document)) as answer:
            await _require(answer, 204)

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send one request; whatever goes wrong is a RemoteError."""
        limits = aiohttp.ClientTimeout(total=seconds, connect=ANSWER_S)
        given = {**(headers or {}), "Authorization": f"Bearer {self.token()}"}
        try:
            async with self._session(path).request(
                method,
                f"{self._url}{path}",
                headers=given,
                timeout=limits,
                allow_redirects=False,
                **more,
            ) as answer:
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise RemoteError(
                f"the bundle service does not answer: {error or type(error).__name__}"
            ) from error

    def _session(self, path: str) -> aiohttp.ClientSession:
        """Return the one connection of a kind of request, under the CAs that hold now.

        One each: a report stays with the replica that took the last one, or the pod would be counted by two.
        """
        http = self._http.get(path)
        if http is None:
            connector = aiohttp.TCPConnector(
                ssl=self._trust.tls_context(), limit=1, keepalive_timeout=KEEP_ALIVE_S
            )
            http = self._http[path] = aiohttp.ClientSession(connector=connector, trust_env=False)
        return http


async def _require(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status == status:
        return
    said = f"HTTP {answer.status}"
    try:
        document = await answer.json()
        said = f"{document['reason']}: {document['error']}"
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        pass  # Somebody else's error page.
    retry = answer.headers.get("Retry-After", "")
    raise RemoteError(
        f"the bundle service refuses: {said[:300]}",
        status=answer.status,
        retry_after_s=min(float(retry), 60.0) if retry.isdecimal() else 0.0,
    )


class RemoteSource:
    """A ``BundleSource``: the bundle service, polled."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._etag: str | None = None
        self._answered = False
        self.problem: str | None = "not asked yet"
        """What is wrong with the service; None when it answers with what is newest here."""

    async def next(self, after_sequence: int | None) -> bytes:
        """Return the next bundle that is not the one already here.

        Raises:
            RemoteError: The service did not answer.
        """
        while True:
            try:
                # The first answer tells at once whether the service is there.
                wait = POLL_S if self._answered or self._etag is None else 1
                found = await self._remote.bundle(self._etag, wait)
            except RemoteError as error:
                self._answered, self.problem = False, str(error)
                await asyncio.sleep(error.retry_after_s)
                raise
            if found is None:
                if not self._answered:
                    self._answered, self.problem = True, None
                continue
            self._answered = True
            raw, etag = found
            match = _ETAG.match(etag)
            self._etag = etag if match else None
            if match is None:
                await asyncio.sleep(1)  # Nothing to wait by: never in a tight loop.
            elif not self._is_newer(int(match[1]), after_sequence or 0):
                continue
            return raw

    def _is_newer(self, sequence: int, after_sequence: int) -> bool:
        """Whether a bundle is worth judging; an older one is not, for nothing leads back."""
        self.problem = None
        if sequence < after_sequence:
            self.problem = (
                f"it serves sequence {sequence}, and {after_sequence} has been seen here: "
                "that replica is behind, or its bundles were set back"
            )
            log.warning("older bundle passed over", **{keys.SEQUENCE: sequence})
        return sequence > after_sequence
