"""The sidecar in a pod: what ``sluice-init`` and ``sluice-proxy`` run."""
