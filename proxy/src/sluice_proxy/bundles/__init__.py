"""The one bundle client: takes signed bundles from a source, judges them, and serves them to OPA."""

from sluice_proxy.bundles.client import BundleClient, BundleSource
from sluice_proxy.bundles.model import Bundle, BundleRefusedError
from sluice_proxy.bundles.server import BundleServer
from sluice_proxy.bundles.verify import verify_bundle

__all__ = [
    "Bundle",
    "BundleClient",
    "BundleRefusedError",
    "BundleServer",
    "BundleSource",
    "verify_bundle",
]
