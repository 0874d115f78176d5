"""The operator's own certificates: an authority, its rotation with overlap, and what it signs. Pure."""
