"""Certificate and token of the bundle service that OPA polls over the loopback address."""

from __future__ import annotations

import secrets
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice_proxy.files import write_atomically

ADDRESS: Final = "127.0.0.1"
TOKEN_BYTES: Final = 32
BACKLOG: Final = 128


def listen(port: int) -> socket.socket:
    """Take connections from now on; whoever connects waits until somebody answers.

    Raises:
        OSError: The port is taken.
    """
    return socket.create_server((ADDRESS, port), backlog=BACKLOG)


@dataclass(frozen=True, slots=True)
class LoopbackFiles:
    """In a private directory that the proxy and OPA share."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate that OPA must trust, and no other."""
        return self.directory / "ca.pem"

    @property
    def token(self) -> Path:
        """OPA's bearer token."""
        return self.directory / "token"

    @property
    def _server(self) -> Path:
        return self.directory / "server.pem"

    def ensure(self) -> None:
        """Make them unless an earlier run did, whose OPA may still trust them."""
        if not all(path.is_file() for path in (self.ca, self._server, self.token)):
            self.make()

    def make(self) -> None:
        """Make all of them anew."""
        # Imported here: a sidecar that is started again has them already.
        from sluice_proxy.loopback_certificate import make_certificate  # noqa: PLC0415

        private, public = make_certificate(ADDRESS)
        write_atomically(self._server, private + public)
        write_atomically(self.ca, public)
        write_atomically(self.token, secrets.token_urlsafe(TOKEN_BYTES).encode())

    def context(self) -> ssl.SSLContext:
        """Return the server's side of TLS.

        Raises:
            OSError: The files are not there.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._server)
        return context

    def forget_key(self) -> None:
        """Remove the private key: nobody needs to read it again."""
        self._server.unlink(missing_ok=True)
