"""kubectl and helm as functions: the demonstration, the end-to-end stories and the benches use them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
POLL_S = 0.1


class CommandError(RuntimeError):
    """A program failed; the message is what it said on standard error."""


class Kubectl:
    """One cluster, by its kubeconfig."""

    def __init__(self, kubeconfig: Path, kubectl: Sequence[str], helm: Sequence[str]) -> None:
        """Remember the programs; ``kubectl`` and ``helm`` may be several words."""
        self.kubeconfig = kubeconfig
        self._kubectl, self._helm = tuple(kubectl), tuple(helm)
        self.program = self._kubectl
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return what it said, whatever its exit code."""
        return subprocess.run(
            [*self._kubectl, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=self._environment,
        )

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Run kubectl and return its standard output.

        Raises:
            CommandError: Its exit code was not 0.
        """
        done = self.run(*arguments, stdin=stdin, timeout_s=timeout_s)
        if done.returncode:
            raise CommandError(
                f"kubectl {' '.join(arguments)[:200]}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def helm(self, *arguments: str, timeout_s: float = 300) -> str:
        """Run helm and return its standard output.

        Raises:
            CommandError: Its exit code was not 0.
        """
        done = subprocess.run(
            [*self._helm, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=self._environment,
        )
        if done.returncode:
            raise CommandError(
                f"helm {' '.join(arguments)[:200]}: {done.stderr.strip()} {done.stdout.strip()}"
            )
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Return the objects as JSON.

        Raises:
            CommandError: There are none, or the API server refuses.
        """
        return json.loads(self("get", *arguments, "-o", "json"))

    def find(self, *arguments: str) -> Any | None:
        """Return one object as JSON, None when it is not there."""
        done = self.run("get", *arguments, "-o", "json", "--ignore-not-found")
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply documents.

        Raises:
            CommandError: The API server refuses one of them; the message is its own.
        """
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def refusal(self, document: Mapping[str, Any], *, dry_run: bool = False) -> str:
        """Return why the API server refuses the document; empty when it takes it."""
        extra = ["--dry-run=server"] if dry_run else []
        done = self.run("create", *extra, "-f", "-", stdin=yaml.safe_dump(document))
        return done.stderr.strip() if done.returncode else ""

    def refusal_of_change(self, document: Mapping[str, Any]) -> str:
        """Return why the API server refuses to apply the document; empty when it is applied."""
        done = self.run("apply", "-f", "-", stdin=yaml.safe_dump(document))
        return done.stderr.strip() if done.returncode else ""

    def rollout(self, namespace: str, workload: str, *, timeout_s: float = 180) -> None:
        """Wait until a workload's pods are those of its template, all ready."""
        self(
            "-n", namespace, "rollout", "status", workload, f"--timeout={int(timeout_s)}s",
            timeout_s=timeout_s + 10,
        )  # fmt: skip

    def pods(self, namespace: str, selector: str) -> list[Any]:
        """Return the pods of a selector that are not being deleted."""
        items = self.get("-n", namespace, "pods", "-l", selector)["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start kubectl with pipes."""
        return subprocess.Popen(
            [*self._kubectl, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=self._environment,
        )


def until(
    probe: Callable[[], T | None], *, within_s: float = 60, what: str = "", every_s: float = POLL_S
) -> T:
    """Return the first true answer of ``probe``; an exception it raises counts as not yet.

    Raises:
        TimeoutError: There was none in time; the message has the last answer.
    """
    deadline = time.monotonic() + within_s
    last: object = None
    while True:
        try:
            if answer := probe():
                return answer
            last = answer
        except (CommandError, AssertionError, LookupError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:.0f} s: {what or probe}: {last!r}")
        time.sleep(every_s)


SESSION = """
import json, sys, time, psycopg
from psycopg import sql
connections = {}
def connection(name, dsn):
    if name not in connections or connections[name].closed:
        connections[name] = psycopg.connect(dsn, autocommit=True, connect_timeout=20)
    return connections[name]
def cell(value):
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
def answer(ask):
    begun = time.monotonic()
    try:
        if ask.get("close"):
            if (open_ := connections.pop(ask["session"], None)): open_.close()
            return {"rows": []}
        cursor = connection(ask["session"], ask["dsn"]).execute(ask["sql"], ask.get("parameters"))
        rows = [[cell(c) for c in row] for row in cursor.fetchall()] if cursor.description else []
        return {"rows": rows, "seconds": time.monotonic() - begun}
    except psycopg.Error as error:
        d = error.diag
        return {"error": str(error), "sqlstate": d.sqlstate, "message": d.message_primary,
                "detail": d.message_detail, "hint": d.message_hint}
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
"""


class DeniedError(RuntimeError):
    """PostgreSQL (or the sidecar in its name) answered with an error."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """Take the fields over."""
        super().__init__(str(answer["error"]).strip())
        self.sqlstate: str | None = answer.get("sqlstate")
        self.message = str(answer.get("message") or answer["error"])
        self.detail = str(answer.get("detail") or "")
        self.hint = str(answer.get("hint") or "")


class PodClient:
    """psycopg inside a pod's container, driven from here: connections stay open between statements."""

    def __init__(
        self, kubectl: Kubectl, namespace: str, pod: str, dsn: str, *, container: str = "app"
    ) -> None:
        """Start Python in the container."""
        self.pod, self.namespace, self.dsn = pod, namespace, dsn
        self._lock = threading.Lock()
        self._process = kubectl.popen(
            "-n", namespace, "exec", "-i", pod, "-c", container, "--", "python", "-u", "-c", SESSION,
        )  # fmt: skip

    def execute(
        self, sql: str, *parameters: object, session: str = "", dsn: str | None = None
    ) -> list[list[Any]]:
        """Run one statement and return its rows.

        Raises:
            DeniedError: It gave an error.
        """
        ask: dict[str, object] = {"session": session, "dsn": dsn or self.dsn, "sql": sql}
        if parameters:
            ask["parameters"] = list(parameters)
        answer = self._ask(ask)
        if "error" in answer:
            raise DeniedError(answer)
        return answer["rows"]

    def disconnect(self, session: str = "") -> None:
        """Close one connection; the next statement makes it anew."""
        self._ask({"session": session, "close": True})

    def _ask(self, ask: Mapping[str, Any]) -> Any:
        with self._lock:
            if self._process.stdin is None or self._process.stdout is None:
                raise CommandError("the process has no pipes")
            try:
                self._process.stdin.write(json.dumps(ask) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except OSError as error:
                raise CommandError(f"the client in {self.pod} ended: {error}") from error
            if not line:
                problem = self._process.stderr.read() if self._process.stderr else ""
                raise CommandError(f"the client in {self.pod} ended: {problem[-2000:]}")
            return json.loads(line)

    def hang_up(self) -> None:
        """Tell Python in the container to end, without waiting for it."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()

    def close(self) -> None:
        """End Python in the container."""
        self.hang_up()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
