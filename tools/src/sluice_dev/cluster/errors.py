"""What goes wrong with clusters."""


class ClusterError(RuntimeError):
    """The cluster cannot be what was asked; the message says why and what to do."""
