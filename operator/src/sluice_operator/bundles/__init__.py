"""The bundle service: serves signed bundles and identities to sidecars. Holds no private key."""
