"""A process of the operator, as tests and benchmarks start it: with an environment of its own and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from sluice_dev import asking, children

Part = Literal["controller", "admission", "bundles"]
HOST = "127.0.0.1"


class OperatorProcess:
    """One of the three. Health, and what it serves, are on free ports of 127.0.0.1."""

    def __init__(
        self,
        part: Part,
        *,
        kubeconfig: Path | str,
        namespace: str,
        name: str,
        log: Path,
        **settings: str,
    ) -> None:
        """Describe one; ``start`` starts it, as often as it was stopped.

        Args:
            part: Which one.
            kubeconfig: Whose rights it has.
            namespace: Of the release.
            name: Of its pod.
            log: Where its log is appended; the folder is its home.
            settings: Environment variables besides.
        """
        self.name, self.namespace = name, namespace
        self.port = children.free_port()
        """Where it serves; the controller serves nothing."""
        self.health_port = children.free_port()
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._part = part
        serving = {} if part == "controller" else {"SLUICE_LISTEN": f"{HOST}:{self.port}"}
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(log.parent),
            "KUBECONFIG": str(kubeconfig),
            "SLUICE_NAMESPACE": namespace,
            "SLUICE_POD_NAME": name,
            "SLUICE_HEALTH": f"{HOST}:{self.health_port}",
            **serving,
            **settings,
        }

    def start(self) -> None:
        """Start it; it is ready later."""
        self.process = children.start(
            [sys.executable, "-m", "sluice_operator", self._part],
            log=self.log,
            environment=self._environment,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._started().poll()

    def stop(self, within_s: float = 20) -> int:
        """Ask it to end and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It did not, and was killed.
        """
        process = self._started()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return process.returncode

    def kill(self) -> None:
        """End it at once; one that was not started or has ended is no error."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """Ask for its health or its metrics; 0 and the reason when it does not answer."""
        return asking.get(HOST, self.health_port, path)

    @property
    def ready(self) -> bool:
        """Whether it says so."""
        return self.get("/readyz")[0] == 200

    def metrics(self) -> dict[str, float]:
        """Return what it measures, by name and labels."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, value, *_ in (line.split() for line in lines)}

    def lines(self) -> list[dict[str, Any]]:
        """Return its log."""
        return [json.loads(one) for one in self.log.read_text().splitlines() if one[:1] == "{"]

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError(f"the {self._part} was not started")
        return self.process
