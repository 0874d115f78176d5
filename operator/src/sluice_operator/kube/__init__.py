"""The only part that talks to Kubernetes."""
