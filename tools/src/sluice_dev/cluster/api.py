"""A real API server for tests: etcd and kube-apiserver on 127.0.0.1, no node, no root needed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sluice_dev import children
from sluice_dev.cluster import pki, programs
from sluice_dev.cluster.control import Control


class ApiServerError(RuntimeError):
    """The API server did not start, or kubectl failed; the message has what it said."""


class ApiServer:
    """A running API server with a folder of its own; a context manager that stops it and removes the folder.

    Everything that the API server itself does is real: validation, CRDs with CEL, admission webhooks (by URL),
    admission policies, RBAC, TokenRequest and TokenReview, server-side apply, watches. Nothing runs pods. Without
    ``controllers`` nothing deletes a namespace's contents, makes its service account ``default``, collects
    garbage or adds the default roles to aggregated ones either.
    """

    def __init__(
        self,
        *,
        controllers: Sequence[str] = (),
        options: Sequence[str] = (),
        ready_within_s: float = 90,
    ) -> None:
        """Start it and wait until it is ready (the first time on a machine this builds its programs: minutes).

        Args:
            controllers: Names of kube-controller-manager's controllers to run beside it, for example
                ``serviceaccount-controller``, ``namespace-controller``, ``garbage-collector-controller``.
            options: More of kube-apiserver's options.
            ready_within_s: How long the start may take.

        Raises:
            ApiServerError: It is not ready in time.
        """
        programs.ensure(programs.LOCALKUBE)
        self.directory = Path(tempfile.mkdtemp(prefix="sluice-api-"))
        self._options, self._controllers = list(options), list(controllers)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._seconds = ready_within_s
        try:
            for attempt in range(3):  # A free port may be taken between the look and the start.
                self.control = Control(
                    self.directory, children.free_port(), children.free_port(), children.free_port()
                )
                try:
                    self._launch()
                except ApiServerError as error:
                    if attempt == 2 or "address already in use" not in str(error):
                        raise
                    self._end()
                    shutil.rmtree(self.directory / "etcd", ignore_errors=True)
                else:
                    return
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """``https://127.0.0.1:PORT``."""
        return self.control.url

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (JSON; needs no other file)."""
        return self.control.kubeconfig

    @property
    def authority_file(self) -> Path:
        """PEM of the authority that signed the API server's certificate."""
        return self.control.authority_file

    def user_kubeconfig(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig that logs in as this user of these groups (by certificate)."""
        return self.control.user_kubeconfig(
            f"user-{name.replace(':', '-')}", name=name, groups=list(groups)
        )

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig that logs in as an existing service account, with a token for an hour."""
        path = self.directory / f"service-account-{namespace}-{name}.kubeconfig"
        return pki.kubeconfig(
            path, self.url, self.authority_file, token=self.token(namespace, name)
        )

    def token(
        self,
        namespace: str,
        service_account: str,
        *,
        audience: str | None = None,
        pod: str | None = None,
        seconds: int = 3600,
    ) -> str:
        """Return a token as the TokenRequest API issues it.

        Args:
            namespace: Of the service account.
            service_account: Its name.
            audience: None: the API server itself.
            pod: Bound to this pod, as the projected tokens of a real pod are.
            seconds: Its life; the API server's least is 600.
        """
        more = ["--audience", audience] if audience else []
        more += ["--bound-object-kind", "Pod", "--bound-object-name", pod] if pod else []
        command = (
            "create",
            "token",
            service_account,
            "-n",
            namespace,
            f"--duration={seconds}s",
            *more,
        )
        return self.kubectl(*command).strip()

    def kubectl(
        self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> str:
        """Run kubectl and return what it printed.

        Raises:
            ApiServerError: It failed; the message is what it said.
        """
        command = [
            *programs.kubectl_command(),
            f"--kubeconfig={kubeconfig or self.kubeconfig}",
            *arguments,
        ]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise ApiServerError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a list, as kubectl gets it."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, objects: Path | Iterable[Mapping[str, Any]]) -> None:
        """Apply a file or folder of manifests, or objects, server-side."""
        if isinstance(objects, Path):
            self.kubectl("apply", "--server-side", "--recursive", "-f", str(objects))
            return
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace with its service account ``default``, without which no pod can be created in it."""
        metadata = {"name": name, "labels": dict(labels or {})}
        account = {"name": "default", "namespace": name}
        self.apply(
            [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata},
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
            ]
        )

    def halt(self) -> None:
        """Stop the API server (not etcd) at once; ``resume`` brings it back on the same port."""
        children.stop(self._running.pop("kube-apiserver"), signal.SIGKILL)

    def resume(self) -> None:
        """Start it again after ``halt``, and wait until it is ready."""
        self._start("kube-apiserver", [*self.control.apiserver_command(), *self._options])
        self._await_ready()

    def wait(self) -> None:
        """Return when one of its programs has ended."""
        while all(process.poll() is None for process in self._running.values()):
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop everything and remove the folder; again is harmless."""
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_end(self, program: str = "kube-apiserver", characters: int = 3000) -> str:
        """Return the end of a program's log."""
        path = self.directory / f"{program}.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else "no log"

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

    def _launch(self) -> None:
        self.control.prepare()
        self._start("etcd", self.control.etcd_command())
        self._start("kube-apiserver", [*self.control.apiserver_command(), *self._options])
        self._await_ready()
        if self._controllers:
            self._start("kube-controller-manager", self._controller_command())

    def _controller_command(self) -> list[str]:
        return [
            str(programs.ensure(programs.LOCALKUBE)), "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(self._controllers)}",
            f"--root-ca-file={self.authority_file}",
            f"--service-account-private-key-file={self.control.service_account_key}",
            "--leader-elect=false",
            "--secure-port=0",
        ]  # fmt: skip

    def _start(self, name: str, command: Sequence[str]) -> None:
        log = self.directory / f"{name}.log"
        # Nothing of what these programs keep is worth an orderly end.
        self._running[name] = children.start(command, log=log, on_parent_death=signal.SIGKILL)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self._seconds
        why: str | None = "it does not answer"
        while time.monotonic() < deadline:
            for name, process in self._running.items():
                if (code := process.poll()) is not None:
                    raise ApiServerError(f"{name} ended with {code}:\n{self.log_end(name)}")
            why = self.control.not_ready()
            if why is None:
                return
            time.sleep(0.05)
        raise ApiServerError(f"no API server after {self._seconds:.0f} s: {why}\n{self.log_end()}")

    def _end(self) -> None:
        # The API server first: with its store gone it would only wait.
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            if (process := self._running.pop(name, None)) is not None:
                children.stop(process, signal.SIGKILL)
