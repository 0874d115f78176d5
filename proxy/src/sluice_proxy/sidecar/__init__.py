"""The sidecar in a pod: what ``sluice-proxy`` runs."""
