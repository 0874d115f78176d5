"""A real OPA with the library of this tree, asked many questions in one evaluation."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REGO = Path(__file__).resolve().parents[3] / "policy" / "rego"
CONTRACT = REGO.parent / "contract"

# One request carries many (data, input) pairs, so that an example costs one round trip.
BATCH = """package batch

bundles := {"sluice": {"manifest": {"revision": "r1", "metadata": {"sequence": 7}}}}

answers := [answer |
    some case in input.cases
    answer := {"session": session(case), "statement": statement(case)}
]

session(case) := answer if {
    answer := data.sluice.session.decision with input as case.input
        with data.sluice_data as case.data
        with data.system.bundles as bundles
}

statement(case) := answer if {
    answer := data.sluice.statement.decision with input as case.input
        with data.sluice_data as case.data
        with data.system.bundles as bundles
}
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class OpaServer:
    """One OPA process; `status` and `ask` speak to its API."""

    def __init__(self, program: Path, socket_path: Path, arguments: list[str]) -> None:
        self.socket_path = socket_path
        address = f"unix://{socket_path}"
        command = [str(program), "run", "--server", "--addr", address, "--log-level", "error"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_until_ready(self, path: str = "/health?bundles=false") -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                stderr = self.process.stderr
                pytest.fail(f"OPA ended: {stderr.read().decode() if stderr else ''}")
            try:
                if self.request("GET", path)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        pytest.fail("OPA did not become ready")

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = UnixConnection(self.socket_path)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ask(self, path: str, document: Any) -> Any:
        status, body = self.request("POST", path, json.dumps({"input": document}).encode())
        assert status == 200, body
        return json.loads(body)["result"]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        if self.process.stderr:
            self.process.stderr.close()


class Library:
    """The library in a running OPA: decisions for (data, input) pairs."""

    def __init__(self, server: OpaServer) -> None:
        self.server = server

    def decide(self, cases: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
        """Both decisions of each pair of `sluice_data` and input."""
        asked = {"cases": [{"data": data, "input": question} for data, question in cases]}
        return self.server.ask("/v1/data/batch/answers", asked)


@pytest.fixture(scope="session")
def library(opa: Path) -> Iterator[Library]:
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.rego"
        batch.write_text(BATCH)
        modules = [str(path) for path in library_modules()]
        server = OpaServer(opa, Path(folder) / "opa.sock", [str(batch), *modules])
        try:
            server.wait_until_ready()
            yield Library(server)
        finally:
            server.close()


def library_modules() -> list[Path]:
    found = (REGO / "sluice").glob("*.rego")
    return sorted(path for path in found if not path.name.endswith("_test.rego"))


@pytest.fixture(scope="session")
def modules() -> list[Path]:
    return library_modules()


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in CONTRACT.glob("*.schema.json")}


@pytest.fixture
def start_opa(opa: Path) -> Iterator[Any]:
    """A function that starts an OPA with these arguments and gives the server."""
    servers: list[OpaServer] = []
    with tempfile.TemporaryDirectory() as folder:

        def start(arguments: list[str]) -> OpaServer:
            server = OpaServer(opa, Path(folder) / f"{len(servers)}.sock", arguments)
            servers.append(server)
            return server

        yield start
        for server in servers:
            server.close()
