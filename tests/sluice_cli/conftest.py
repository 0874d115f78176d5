"""``sluice run`` started as a program, before a database of its own."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);
INSERT INTO users VALUES (1, 'ann@example.com'), (2, 'bob@example.com');
"""
CLASSIFICATION = """\
apiVersion: sluice.dev/v1alpha1
kind: DataClassification
metadata: {{name: shop, namespace: shop}}
spec:
  database: {{hosts: [127.0.0.1], port: {port}, name: {name}}}
  unreviewedColumns: mask
  columns:
    - {{table: public.users, column: email, class: pii.email}}
    - {{table: public.users, column: id, class: public}}
"""
POLICY = """\
apiVersion: sluice.dev/v1alpha1
kind: DatabaseAccessPolicy
metadata: {name: support, namespace: shop}
spec:
  databases: {names: [shop]}
  rules:
    - name: read
      effect: allow
      actions: [select, session]
      classes: [pii]
  masks:
    - {class: pii.email, mask: redact}
"""


@dataclass
class Running:
    process: subprocess.Popen[str]
    port: int
    health: int
    policies: Path
    dsn: str
    ready: str = ""
    errors: list[str] = field(default_factory=list)

    def connect(self, **parameters: object) -> psycopg.Connection:
        info = psycopg.conninfo.conninfo_to_dict(self.dsn)
        info |= {"host": "127.0.0.1", "port": self.port, "sslmode": "disable"} | parameters
        return psycopg.connect(**info, autocommit=True)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def events(self, name: str) -> list[dict]:
        found = []
        for line in list(self.errors):
            with contextlib.suppress(ValueError):
                document = json.loads(line)
                if document.get("event") == name:
                    found.append(document)
        return found

    def wait_event(self, name: str, seconds: float = 10) -> dict:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.events(name):
                return found[-1]
            time.sleep(0.01)
        raise AssertionError(f"no {name!r} in\n" + "".join(self.errors))

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def write(self, **changes: str) -> None:
        text = POLICY
        for old, new in changes.items():
            text = text.replace(old, new)
        temporary = self.policies / ".support.new"
        temporary.write_text(text)
        temporary.replace(self.policies / "support.yaml")


class Starting:
    policy = POLICY

    def __init__(self, opa: Path, directory: Path) -> None:
        self.opa = opa
        self.directory = directory

    @staticmethod
    def free_port() -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return one.getsockname()[1]

    @staticmethod
    def classification(port: int | str, name: str) -> str:
        return CLASSIFICATION.format(port=port, name=name)

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "sluice_cli", "run", *more]

    @contextlib.contextmanager
    def __call__(
        self,
        dsn: str,
        *,
        policy: str = POLICY,
        catalog_dsn: str | None = None,
        drain_time: str = "2s",
    ) -> Iterator[Running]:
        info = psycopg.conninfo.conninfo_to_dict(dsn)
        policies = self.directory / "policies"
        policies.mkdir()
        (policies / "classification.yaml").write_text(
            self.classification(info["port"], info["dbname"])
        )
        (policies / "support.yaml").write_text(policy)
        catalog = self.directory / "catalog.dsn"
        catalog.write_text(catalog_dsn or dsn)
        port, health = self.free_port(), self.free_port()
        command = self.command(
            *("--policies", str(policies), "--listen", f"127.0.0.1:{port}"),
            *("--upstream", f"127.0.0.1:{info['port']}", "--catalog", str(catalog)),
            *("--health", f"127.0.0.1:{health}", "--state", str(self.directory / "state")),
            *("--namespace", "shop", "--opa", str(self.opa), "--drain", drain_time),
        )
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running = Running(process, port, health, policies, dsn)
        lines: queue.Queue[str] = queue.Queue()
        threads = [
            threading.Thread(target=drain, args=(process.stderr, running.errors.append)),
            threading.Thread(target=drain, args=(process.stdout, lines.put)),
        ]
        for thread in threads:
            thread.start()
        try:
            running.ready = first_line(lines, running)
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()
            for thread in threads:
                thread.join()
            process.stdout.close()
            process.stderr.close()


def drain(stream, put) -> None:
    for line in stream:
        put(line)


def first_line(lines: queue.Queue[str], running: Running) -> str:
    for _ in range(300):
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=0.1)
        if running.process.poll() is not None:
            break
    raise AssertionError("not ready:\n" + "".join(running.errors))


@pytest.fixture
def start(opa, tmp_path) -> Starting:
    return Starting(opa, tmp_path)


@pytest.fixture
def database(new_database) -> str:
    return new_database(SCHEMA)
