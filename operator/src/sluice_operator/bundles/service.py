"""The HTTP side of the bundle service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_operator.bundles.callers import Caller, Callers
from sluice_operator.bundles.refusals import BAD_REQUEST, NOT_FOUND, TOO_LARGE, Refusal
from sluice_operator.bundles.reports import STATUS_BYTES_MAX, Reports
from sluice_operator.bundles.shelf import Shelf
from sluice_operator.bundles.statuses import parse_status

CONTENT_TYPE: Final = "application/vnd.openpolicyagent.bundles"
WAIT_MAX_S: Final = 60.0


class BundleService:
    """What the three requests of a sidecar are answered from."""

    def __init__(self, callers: Callers, shelf: Shelf, reports: Reports) -> None:
        self._callers = callers
        self._shelf = shelf
        self._reports = reports
        self.ending = False
        """Connections are closed with their next answer, so that sidecars go to another replica."""
        self.served = 0
        self.refused = 0

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        others = self._others()

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            # Polls go past the framework: a thousand of them are answered at one moment.
            poll = scope["type"] == "http" and scope["path"] == "/v1/bundle"
            if not poll or scope["method"] != "GET":
                await others(scope, receive, send)
                return
            request = Request(scope)
            try:
                answer = await self._bundle(request)
            except Refusal as refusal:
                answer = await self._refusal(request, refusal)
            await answer(scope, receive, send)

        return dispatch

    def _others(self) -> FastAPI:
        application = FastAPI(title="Sluice bundle service", docs_url=None, openapi_url=None)
        # Plain routes: nothing of them is parsed by annotations.
        application.add_route("/v1/identity", self._identity, methods=["GET"])
        application.add_route("/v1/status", self._status, methods=["POST"])
        application.add_exception_handler(Refusal, self._refusal)
        application.add_exception_handler(HTTPException, _unknown)
        return application

    async def _caller(self, request: Request) -> Caller:
        return await self._callers.caller(request.headers.get("authorization"))

    async def _identity(self, request: Request) -> Response:
        caller = await self._caller(request)
        return JSONResponse(caller.identity(), headers=self._connection())

    async def _bundle(self, request: Request) -> Response:
        caller = await self._caller(request)
        etag = request.headers.get("if-none-match")
        seconds = wait_s(request.headers.get("prefer", ""))
        offer = await self._shelf.wait(caller.profile, caller.pod_uid, etag, seconds)
        self._callers.check(caller)
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", **self._connection()}
        if offer is None:
            if etag is not None:
                headers["ETag"] = etag
            return Response(status_code=304, headers=headers)
        self.served += 1
        return Response(offer.content, headers=headers | {"ETag": offer.etag})

    async def _status(self, request: Request) -> Response:
        caller = await self._caller(request)
        self._reports.take(caller, parse_status(await _body(request)))
        return Response(status_code=204, headers=self._connection())

    async def _refusal(self, _request: Request, error: Exception) -> Response:
        if not isinstance(error, Refusal):
            raise error
        self.refused += 1
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        document = {"error": str(error), "reason": error.reason}
        return JSONResponse(document, error.status, headers=headers | dict(self._connection()))

    def _connection(self) -> Mapping[str, str]:
        return {"Connection": "close"} if self.ending else {}


def wait_s(prefer: str) -> float:
    """Return the seconds of ``Prefer: wait=N``, at most WAIT_MAX_S; 0 when it does not ask to wait."""
    for item in prefer.replace(",", ";").split(";"):
        name, _, value = item.strip().partition("=")
        if name.strip().lower() == "wait" and value.strip().isdecimal():
            return min(float(value), WAIT_MAX_S)
    return 0.0


async def _body(request: Request) -> bytes:
    """Return a body of bounded size; what is longer is not read."""
    kept = bytearray()
    async for chunk in request.stream():
        kept += chunk
        if len(kept) > STATUS_BYTES_MAX:
            raise Refusal(413, TOO_LARGE, f"a status has at most {STATUS_BYTES_MAX} bytes")
    return bytes(kept)


async def _unknown(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    reason = NOT_FOUND if status == 404 else BAD_REQUEST
    text = "there is GET /v1/identity, GET /v1/bundle and POST /v1/status"
    return JSONResponse({"error": text, "reason": reason}, status)
