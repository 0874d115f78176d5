"""Whom a sidecar trusts: the CAs of the bundle service, and the keys that sign bundles."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast


class TrustError(Exception):
    """What should be trusted cannot be read."""


@dataclass(frozen=True, slots=True)
class Trust:
    """CAs and signing keys, all public."""

    ca_pem: str
    keys: Mapping[str, str]
    """PEM by key id: the present one and the next."""

    @classmethod
    def parse(cls, text: str) -> Trust:
        """Return what a JSON text says.

        Raises:
            TrustError: It says nothing sound.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise TrustError(f"it is no JSON: {error}") from error
        return cls.of(document)

    @classmethod
    def of(cls, document: Any) -> Trust:
        """Return what a JSON object says (``SLUICE_TRUST``, or ``metadata.trust`` of a bundle).

        Raises:
            TrustError: It says nothing sound.
        """
        if not isinstance(document, dict):
            raise TrustError("it is no object")
        fields = cast("dict[str, Any]", document)
        ca_pem, keys = fields.get("ca_pem"), fields.get("keys")
        if not isinstance(ca_pem, str) or not isinstance(keys, dict) or not keys:
            raise TrustError("it must hold ca_pem and keys")
        pairs = cast("dict[Any, Any]", keys)
        if not all(isinstance(name, str) and isinstance(pem, str) for name, pem in pairs.items()):
            raise TrustError("keys must be PEM texts by key id")
        trust = cls(ca_pem, cast("dict[str, str]", keys))
        trust.tls_context()
        return trust

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that trusts these CAs and no others.

        Raises:
            TrustError: There is no CA among them.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cadata=self.ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise TrustError(f"ca_pem holds no certificate: {error}") from error
        if not context.cert_store_stats()["x509_ca"]:
            raise TrustError("ca_pem holds no CA")
        return context
