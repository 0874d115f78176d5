"""The webhooks over HTTP: reviews in, answers out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram

from sluice_operator import log_keys as keys
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.injection import inject
from sluice_operator.admission.knowledge import Knowledge
from sluice_operator.admission.model import Injection, InjectionSettings, Namespace, Pod, Refusal
from sluice_operator.admission.pods import judge_created, judge_updated
from sluice_operator.admission.reviews import Answer, Review, ReviewError, read_review
from sluice_operator.admission.templates import advise
from sluice_operator.admission.validation import judge_resource
from sluice_operator.kube.errors import KubeError

log = structlog.get_logger(__name__)

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Two objects of the largest that etcd takes, in JSON, and room."""
SETTLE_S: Final = 2.0
"""For what another replica knew already to arrive here; well within the webhook's timeout."""
LOOK_S: Final = 1.0
"""For the API server to say whom to trust now."""
RESOURCES_AT_ONCE: Final = 4
"""Large classifications take a second each: pods must not wait behind many of them."""

Handler = Callable[[Review], Awaitable[Answer]]


class Webhooks:
    """Answers reviews from what is known."""

    def __init__(
        self, knowledge: Knowledge, settings: InjectionSettings, registry: CollectorRegistry
    ) -> None:
        """Make them.

        Args:
            knowledge: What is known of the cluster.
            settings: Of injection; trust is taken from what is known.
            registry: Gets the metrics.
        """
        self._knowledge = knowledge
        self._settings = settings
        self._resources = asyncio.Semaphore(RESOURCES_AT_ONCE)
        self._seconds = Histogram(
            "sluice_admission_seconds",
            "Time to answer a review.",
            ["webhook"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
            registry=registry,
        )
        self._reviews = Counter(
            "sluice_admission_reviews",
            "Reviews by their answer.",
            ["webhook", "answer"],
            registry=registry,
        )

    def application(self) -> FastAPI:
        """The ASGI application."""
        app = FastAPI(title="Sluice admission", docs_url=None, redoc_url=None, openapi_url=None)
        for path, handler in (
            ("/mutate/pods", self.mutate_pod),
            ("/validate/pods", self.validate_pod),
            ("/validate/resources", self.validate_resource),
            ("/warn/templates", self.warn_template),
        ):
            app.add_api_route(path, self._endpoint(path, handler), methods=["POST"])
        return app

    def _endpoint(self, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        webhook = path.strip("/").replace("/", "-")

        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            body = await _body(request)
            if body is None:
                return Response(f"more than {BODY_BYTES_MAX} bytes\n", status_code=413)
            try:
                review = read_review(body)
            except (ReviewError, RecursionError) as error:
                return Response(f"{error}\n", status_code=400)
            answer = await self._answered(webhook, review, handler)
            self._seconds.labels(webhook).observe(time.perf_counter() - began)
            document = json.dumps(answer.document(review.uid), separators=(",", ":"))
            return Response(document, media_type="application/json")

        return endpoint

    async def _answered(self, webhook: str, review: Review, handler: Handler) -> Answer:
        facts = {
            keys.NAMESPACE: review.namespace,
            keys.NAME: review.name or review.object.get("metadata", {}).get("generateName", ""),
        }
        try:
            answer = await handler(review)
        except Exception:  # Whatever it is: doubt denies, and the process goes on.
            log.exception("review failed", webhook=webhook, **facts)
            answer = Answer(False, "Sluice could not judge this: see its log", 500, "InternalError")
        self._reviews.labels(webhook, "allowed" if answer.allowed else "refused").inc()
        if not answer.allowed:
            log.info("refused", webhook=webhook, **facts, **{keys.REASON: answer.message[:500]})
        return answer

    def _now(self) -> tuple[Estate, InjectionSettings]:
        trust = self._knowledge.trust
        if trust is None:
            raise LookupError("trust was there a moment ago")
        return self._knowledge.estate, dataclasses.replace(self._settings, trust=trust)

    async def _namespace(self, name: str) -> Namespace | Answer:
        try:
            return await self._knowledge.namespace_now(name)
        except KubeError as error:
            return Answer.starting(f"the namespace {name} is not known: {error}")

    async def mutate_pod(self, review: Review) -> Answer:
        """Inject into a pod that is created."""
        if (missing := self._knowledge.missing()) is not None:
            return Answer.starting(missing)
        namespace = await self._namespace(review.namespace)
        if isinstance(namespace, Answer):
            return namespace
        return Answer.of(inject(review.object, namespace, *self._now()))

    async def validate_pod(self, review: Review) -> Answer:
        """Compare a pod with what it must be (CREATE) or was (UPDATE)."""
        if review.operation == "UPDATE":
            return Answer.of(judge_updated(review.old, review.object))
        if review.operation != "CREATE":
            return Answer(True)
        if (missing := self._knowledge.missing()) is not None:
            return Answer.starting(missing)
        namespace = await self._namespace(review.namespace)
        if isinstance(namespace, Answer):
            return namespace
        return Answer.of(await self._created(review.object, namespace))

    async def warn_template(self, review: Review) -> Answer:
        """Say beforehand that the pods of a workload will be refused; never refuse the workload."""
        if self._knowledge.missing() is not None:
            return Answer(True)
        namespace = await self._namespace(review.namespace)
        if isinstance(namespace, Answer):
            return Answer(True)
        warnings = advise(review.kind, review.object, namespace, *self._now())
        return Answer(True, warnings=warnings)

    async def _created(self, pod: Pod, namespace: Namespace) -> Injection | Refusal:
        """Judge; when another replica may have known more, wait for it to arrive here."""
        result = self._judged(pod, namespace)

        def right() -> bool:
            nonlocal result
            if self._knowledge.trust is not None:
                result = self._judged(pod, namespace)
            return not _passing(result)

        if _passing(result):
            with contextlib.suppress(KubeError, TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._knowledge.look_at_trust()
            await self._knowledge.settled(right, SETTLE_S)
        return result

    def _judged(self, pod: Pod, namespace: Namespace) -> Injection | Refusal:
        """Judge by what is trusted now, else by what was trusted before.

        Keys and authorities rotate while pods are being created, and overlap: a pod that was injected a moment before
        works as well as one that was created a moment before.
        """
        estate, settings = self._now()
        result = judge_created(pod, namespace, estate, settings)
        before = self._knowledge.trust_before
        if not _passing(result) or before is None:
            return result
        earlier = judge_created(pod, namespace, estate, dataclasses.replace(settings, trust=before))
        return result if isinstance(earlier, Refusal) else earlier

    async def validate_resource(self, review: Review) -> Answer:
        """Judge a DataClassification or DatabaseAccessPolicy."""
        if review.operation not in ("CREATE", "UPDATE"):
            return Answer(True)
        if (unread := self._knowledge.unread()) is not None:
            return Answer.starting(unread)
        namespace = await self._namespace(review.namespace)
        if isinstance(namespace, Answer):
            return namespace
        async with self._resources:
            verdict = await asyncio.to_thread(
                judge_resource,
                review.object,
                review.old or None,
                namespace,
                self._knowledge.resources,
                domain=self._settings.cluster_domain,
            )
        if verdict.errors:
            message = "; ".join(verdict.errors)
            return Answer(False, message, 422, "Invalid", warnings=verdict.warnings)
        return Answer(True, warnings=verdict.warnings)


def _passing(result: Injection | Refusal) -> bool:
    return isinstance(result, Refusal) and result.passing


async def _body(request: Request) -> bytes | None:
    """The body; None when it is too long."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            return None
        parts.append(part)
    return b"".join(parts)
