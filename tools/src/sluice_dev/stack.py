"""`sluice run` on a directory of policies, before one database of one throwaway server."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import conninfo, sql

from sluice_dev import asking, cache, children
from sluice_dev.postgres import Server, environment_without_libpq

CATALOG_ROLE = "sluice_catalog"
_CATALOG_PASSWORD = "catalog-pw"  # noqa: S105 - of a throwaway server.


class StackError(RuntimeError):
    """Sluice did not become ready; the end of its log is in the message."""


def _program() -> Path:
    return Path(sys.executable).with_name("sluice")


def create_catalog_role(admin_dsn: str) -> None:
    """Create the role that reads the catalog: it may log in, and nothing else."""
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        if admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [CATALOG_ROLE]).fetchone():
            return
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(CATALOG_ROLE), sql.Literal(_CATALOG_PASSWORD)
            )
        )


class Sluice:
    """A running `sluice run`; a context manager that drains it and removes its folder."""

    def __init__(
        self,
        server: Server,
        *,
        dbname: str,
        policies: Path,
        namespace: str,
        service_account: str = "default",
        labels: Mapping[str, str] | None = None,
        spool: Path | None = None,
        ready_within_s: float = 60,
    ) -> None:
        """Start it and wait until it is ready.

        Args:
            server: The database server.
            dbname: The database that the one DataClassification of ``policies`` describes.
            policies: Directory of YAML files.
            namespace: Namespace of the workload.
            service_account: Its service account.
            labels: Its labels.
            spool: Audit spool. None: a folder that goes away with this object.
            ready_within_s: How long it may take.

        Raises:
            StackError: It is not ready in time.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="sluice-run-"))
        self.spool = spool or self.directory / "spool"
        self.log = self.directory / "sluice.log"
        self.host = "127.0.0.1"
        self.port, self.health_port = children.free_port(), children.free_port()
        self.server, self.dbname = server, dbname
        command = [
            *self._command(policies, self._credential()),
            *("--namespace", namespace, "--service-account", service_account),
        ]
        for key, value in (labels or {}).items():
            command += ["--labels", f"{key}={value}"]
        self.process = children.start(
            command, log=self.log, environment=environment_without_libpq()
        )
        try:
            self._await_ready(ready_within_s)
        except BaseException:
            self.stop()
            raise

    def _credential(self) -> Path:
        """Make the role that reads the catalog, and the file that says how it logs in."""
        create_catalog_role(self.server.admin_dsn)
        credential = self.directory / "catalog.dsn"
        credential.touch(0o600)
        credential.write_text(
            self.server.dsn(user=CATALOG_ROLE, password=_CATALOG_PASSWORD, dbname=self.dbname)
        )
        return credential

    def _command(self, policies: Path, credential: Path) -> list[str]:
        return [
            str(_program()), "run",
            "--policies", str(policies),
            "--listen", f"{self.host}:{self.port}",
            "--upstream", f"{self.server.host}:{self.server.port}",
            "--catalog", str(credential),
            "--health", f"{self.host}:{self.health_port}",
            "--spool", str(self.spool),
            "--state", str(self.directory / "state"),
            "--opa", str(cache.opa()),
        ]  # fmt: skip

    def dsn(self, *, user: str, password: str, **more: str) -> str:
        """Return a DSN through Sluice."""
        return conninfo.make_conninfo(
            "", host=self.host, port=self.port, user=user, password=password, dbname=self.dbname,
            sslmode="disable", **more,
        )  # fmt: skip

    def health(self, path: str) -> tuple[int, str]:
        """Return status and body of ``/healthz``, ``/readyz`` or ``/metrics``; status 0 when nobody answers."""
        return asking.get(self.host, self.health_port, path)

    def resident_bytes(self) -> dict[str, int]:
        """Return resident memory of the proxy process and of the OPA it started, by name."""
        found = {"proxy": _resident(self.process.pid)}
        for child in _children(self.process.pid):
            found[Path(f"/proc/{child}/comm").read_text().strip()] = _resident(child)
        return found

    def stop(self) -> None:
        """Drain and remove the folder; again is harmless."""
        children.stop(self.process, signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_end(self, characters: int = 3000) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def __enter__(self) -> Self:
        """Return the running stack."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def _await_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        why = "it does not answer"
        while time.monotonic() < deadline:
            if (code := self.process.poll()) is not None:
                raise StackError(f"sluice run ended with {code}:\n{self.log_end()}")
            status, why = self.health("/readyz")
            if status == 200:
                return
            time.sleep(0.05)
        raise StackError(f"sluice run is not ready after {seconds:.0f} s: {why}\n{self.log_end()}")


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found
