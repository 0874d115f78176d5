"""Who is asking: from a pod's projected token to its profile, with one TokenReview for each token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from sluice_operator.admission.names import IDENTITY, INJECTED, PROFILE
from sluice_operator.bundles.refusals import (
    Refusal,
    not_governed,
    token_invalid,
    too_many,
    unavailable,
)
from sluice_operator.kube.bundle_store import ObjectMeta, Reviewed
from sluice_operator.kube.errors import KubeError
from sluice_policy import Profile

AUDIENCE: Final = "sluice"
TOKEN_BYTES_MAX: Final = 16 << 10
CALLERS_MAX: Final = 50_000
"""Tokens kept; the kubelet gives a pod a new one each 48 minutes."""
REFUSED_MAX: Final = 10_000
REFUSED_KEPT_S: Final = 15.0
"""A token that was refused is not asked for again so soon; the API server may have been behind by seconds."""
REVIEWS_AT_ONCE: Final = 32
REVIEWS_WAITING_MAX: Final = 20_000
GONE_KEPT: Final = 10_000


@dataclass(slots=True, eq=False)
class Caller:
    """A governed pod that showed a valid token."""

    profile: str
    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    labels: Mapping[str, str]
    expires_at: float
    gone: bool = False
    """The pod was deleted."""

    def identity(self) -> dict[str, Any]:
        """Return the identity document (``identity.schema.json``)."""
        return {
            "contract": 1,
            "profile": self.profile,
            "namespace": self.namespace,
            "serviceAccount": self.service_account,
            "pod": self.pod,
            "podUid": self.pod_uid,
            "labels": dict(self.labels),
            "assurance": "verified",
        }


class Authority(Protocol):
    """Who vouches for tokens and pods; ``BundleStore`` is one."""

    async def review(self, token: str, audience: str) -> Reviewed | None:
        """Return whose token it is."""
        ...

    async def pod(self, namespace: str, name: str, uid: str) -> ObjectMeta | None:
        """Return the metadata of the pod with that UID; None when it is gone."""
        ...


class Callers:
    """Tokens that were judged, by the hash of the token; no token itself is kept."""

    def __init__(
        self,
        authority: Authority,
        *,
        audience: str = AUDIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authority = authority
        self._audience = audience
        self._clock = clock
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[float, Refusal]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Caller]] = {}
        self._gate = asyncio.Semaphore(REVIEWS_AT_ONCE)
        self._gone: deque[str] = deque(maxlen=GONE_KEPT)
        self.reviews = 0
        """TokenReviews made."""

    def __len__(self) -> int:
        return len(self._known)

    async def caller(self, authorization: str | None) -> Caller:
        """Return who shows this ``Authorization`` header.

        Raises:
            Refusal: Nobody that is served, or it cannot be told now.
        """
        token = _bearer(authorization)
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key)
        if known is not None:
            self.check(known)
            self._known.move_to_end(key)
            return known
        refused = self._refused.get(key)
        if refused is not None and self._clock() < refused[0]:
            raise refused[1]
        # What it says of itself is believed only against it: nobody is asked about what cannot be valid.
        self._plausible_expiry(token)
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= REVIEWS_WAITING_MAX:
                raise too_many("too many tokens wait to be reviewed; try again")
            asking = asyncio.create_task(self._ask(key, token), name="token-review")
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(asking)

    def check(self, caller: Caller) -> None:
        """Make sure that a caller may still be answered, after a poll that took its time.

        Raises:
            Refusal: Its token expired, or its pod is gone.
        """
        if caller.gone:
            raise token_invalid("its pod was deleted")
        if self._clock() >= caller.expires_at:
            raise token_invalid("it expired")

    def pod_gone(self, uid: str) -> None:
        """Forget a deleted pod's tokens."""
        self._gone.append(uid)
        for key in [key for key, caller in self._known.items() if caller.pod_uid == uid]:
            self._known.pop(key).gone = True

    def _asked(self, key: bytes, done: asyncio.Task[Caller]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # Whoever asked may have hung up.

    async def _ask(self, key: bytes, token: str) -> Caller:
        async with self._gate:
            try:
                caller = await self._judge(token)
            except KubeError as error:
                raise unavailable(f"the token cannot be reviewed now: {error}") from error
            except Refusal as refusal:
                self._refused[key] = (self._clock() + REFUSED_KEPT_S, refusal)
                while len(self._refused) > REFUSED_MAX:
                    self._refused.popitem(last=False)
                raise
        if caller.pod_uid in self._gone:  # It went while it was being asked about.
            caller.gone = True
        self.check(caller)
        self._known[key] = caller
        while len(self._known) > CALLERS_MAX:
            self._known.popitem(last=False)
        return caller

    async def _judge(self, token: str) -> Caller:
        self.reviews += 1
        reviewed = await self._authority.review(token, self._audience)
        if reviewed is None:
            raise token_invalid(
                f"the API server does not vouch for it as a pod's token of the audience {self._audience}"
            )
        meta = await self._authority.pod(reviewed.namespace, reviewed.pod, reviewed.pod_uid)
        if meta is None:
            raise token_invalid("its pod was deleted")
        labels = _governed(meta, reviewed)
        profile = Profile(reviewed.namespace, reviewed.service_account, labels)
        if meta.annotations.get(PROFILE) != profile.id:
            raise not_governed(f"its annotation {PROFILE} does not fit its identity")
        return Caller(
            profile=profile.id,
            namespace=reviewed.namespace,
            service_account=reviewed.service_account,
            pod=reviewed.pod,
            pod_uid=reviewed.pod_uid,
            labels=labels,
            # Believed because the API server vouched for the whole token just now.
            expires_at=self._plausible_expiry(token),
        )

    def _plausible_expiry(self, token: str) -> float:
        """Return when a token says that it expires.

        Raises:
            Refusal: It says that it expired, or is for others.
        """
        body = token.split(".")[1]
        try:
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            expires_at, given = float(claims["exp"]), claims["aud"]
            audiences = [given] if isinstance(given, str) else list(given)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise token_invalid("it is no service account token") from error
        if self._audience not in audiences:
            raise token_invalid(f"it is not for the audience {self._audience}")
        if self._clock() >= expires_at:
            raise token_invalid("it expired")
        return expires_at


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise token_invalid("there is none; send Authorization: Bearer and the projected token")
    if len(token) > TOKEN_BYTES_MAX or not token.isascii() or token.count(".") != 2:
        raise token_invalid("it is no service account token")
    return token


def _governed(meta: ObjectMeta, reviewed: Reviewed) -> Mapping[str, str]:
    """Return the labels that the webhook saw at the pod's creation."""
    if not meta.annotations.get(INJECTED):
        raise not_governed("it has not been injected")
    try:
        document = json.loads(meta.annotations[IDENTITY])
        account, labels = document["serviceAccount"], document["labels"]
    except (ValueError, KeyError, TypeError) as error:
        raise not_governed(f"its annotation {IDENTITY} cannot be read") from error
    if account != reviewed.service_account or not isinstance(labels, dict):
        raise not_governed(f"its annotation {IDENTITY} does not fit its token")
    pairs = cast("dict[Any, Any]", labels)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs.items()):
        raise not_governed(f"its annotation {IDENTITY} does not hold labels")
    return cast("dict[str, str]", labels)
