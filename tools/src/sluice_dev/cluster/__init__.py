"""Real Kubernetes without Docker: an API server for tests, and a whole one-node cluster (``tools/cluster``)."""

from sluice_dev.cluster.api import ApiServer, ApiServerError

__all__ = ["ApiServer", "ApiServerError"]
