"""The admission webhooks: pods are injected, both resources are validated."""
