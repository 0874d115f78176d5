"""A one-node cluster on this machine, without Docker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sluice_dev.cache import cache
from sluice_dev.cluster import archives, node, programs
from sluice_dev.cluster.control import Control
from sluice_dev.cluster.errors import ClusterError
from sluice_dev.cluster.files import PAUSE_IMAGE, NodeFiles, dns_objects
from sluice_dev.cluster.node import Network, Node
from sluice_dev.cluster.processes import Processes
from sluice_dev.cluster.programs import say

_ORDER = (
    "etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kube-proxy",
    "coredns", "kubelet",
)  # fmt: skip
_MARK = ".sluice-cluster"
"""In the folder from the first moment: `down` removes no other folder."""
_SOCKET_PATH_MAX = 107  # sockaddr_un


def state_folder(name: str) -> Path:
    """Return the folder of a cluster, unless told otherwise."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sluice" / "clusters" / name


class LocalCluster:
    """One cluster by name; what it is stands in its folder, so that each command finds it again."""

    def __init__(self, name: str, directory: Path | None = None) -> None:
        """Look at the folder; nothing is started.

        Args:
            name: Of the cluster and its node.
            directory: Its folder. None: below the user's state folder.
        """
        self.name = name
        self.directory = (directory or state_folder(name)).absolute()
        self._running = Processes(self.directory / "run")
        self._number = self._noted_number()
        self._seen: set[str] = set()
        """Programs that were started, or found running, by this object."""

    @property
    def exists(self) -> bool:
        """Whether it was brought up and not down."""
        return self._number is not None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "admin.kubeconfig"

    def up(self, *, ready_within_s: float = 180) -> str:
        """Bring it up, or what of it does not run; return a sentence that says so.

        Raises:
            ClusterError: Something is missing, or did not start.
        """
        begun = time.monotonic()
        self._check()
        for program in (programs.LOCALKUBE, programs.COREDNS, programs.PAUSE):
            programs.ensure(program)
        self._claim_folder()
        with programs.locked(self.directory / "lock"):
            begun = time.monotonic()
            ready_s = self._up(begun, begun + ready_within_s)
        whole_s = time.monotonic() - begun
        return (
            f"cluster {self.name} is up: API server ready after {ready_s:.1f} s, node and DNS after {whole_s:.1f} s;"
            f" kubeconfig: {self.kubeconfig}"
        )

    def down(self) -> bool:
        """End everything that runs and remove the folder; return whether there was anything."""
        if not self.directory.exists():
            return False
        self._need_root()
        if not self._is_ours():
            raise ClusterError(f"{self.directory} is not a cluster's folder; nothing was removed")
        with programs.locked(self.directory / "lock"):
            # Without a number nothing but the folder was made; any number finds the processes all the same.
            self._node(
                Network(self._number or 0) if self._number is not None else Network(63)
            ).down()
            for name in _ORDER:
                self._running.stop(name, signal.SIGKILL)
            shutil.rmtree(self.directory, ignore_errors=False)
        return True

    def status(self) -> dict[str, str]:
        """Return what runs and what does not, by part; empty when the cluster is not there."""
        if self._number is None:
            return {}
        found = {
            name: "runs" if self._running.pid(name) else "does not run"
            for name in ("node", *_ORDER)
        }
        network = Network(self._number)
        found["api"] = self._control(network).not_ready() or "ready"
        if found["api"] == "ready":
            node_problem = self._node_not_ready()
            found["node ready"] = node_problem or "yes"
        parts = all(state == "runs" for name, state in found.items() if name in ("node", *_ORDER))
        found["ready"] = "yes" if parts and found.get("node ready") == "yes" else "no"
        return found

    def load(self, archive: Path) -> None:
        """Put the images of a docker-archive tar on the node, unless the same are there already.

        Raises:
            ClusterError: containerd refused it.
        """
        if self._number is None or self._running.pid("containerd") is None:
            raise ClusterError(f"cluster {self.name} is not up; run `tools/cluster up`")
        self._need_root()
        wanted, loaded = archives.contents(archive), self.loaded()
        if all(loaded.get(name) == content for name, content in wanted.items()):
            return
        files = self._files(Network(self._number))
        done = subprocess.run(
            ["ctr", f"--address={files.socket}", "-n", "k8s.io", "images", "import", str(archive)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ClusterError(f"loading {archive}: {done.stderr.strip()[-2000:]}")
        (self.directory / "loaded.json").write_text(json.dumps({**loaded, **wanted}))

    def loaded(self) -> dict[str, str]:
        """Return the names of the images on the node, each with what tells its content."""
        try:
            return json.loads((self.directory / "loaded.json").read_text())
        except (OSError, ValueError):
            return {}

    def kubectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator.

        Raises:
            ClusterError: It failed, and ``check`` is set.
        """
        command = [*programs.kubectl_command(), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    # ---- How it is made ---------------------------------------------------------------------------------

    def _up(self, begun: float, deadline: float) -> float:
        self._seen.clear()
        network = Network(self._take_number())
        holder = self._node(network).up()
        control, files = self._control(network), self._files(network)
        self._write_files(control, files)
        inside = self._starter(holder)
        inside("etcd", control.etcd_command())
        inside("kube-apiserver", control.apiserver_command())
        files.socket.unlink(missing_ok=True) if self._running.pid("containerd") is None else None
        inside(
            "containerd", [found("containerd") or "containerd", "--config", str(files.containerd)]
        )
        self._wait("the API server", deadline, control.not_ready)
        api_s = time.monotonic() - begun
        for name, command in self._rest(control, files).items():
            inside(name, command)
        self._apply(dns_objects(network))
        self._wait(
            "containerd", deadline, lambda: None if files.socket.exists() else "no socket yet"
        )
        self._load_pause()
        self._wait("the node", deadline, self._node_not_ready)
        self._wait("the cluster's DNS", deadline, lambda: self._dns_not_ready(network))
        return api_s

    def _starter(self, holder: int) -> Callable[[str, list[str]], bool]:
        def start(name: str, command: list[str]) -> bool:
            self._seen.add(name)
            return self._running.ensure(name, command, inside=holder, marker=f"{self.directory}/")

        return start

    def _write_files(self, control: Control, files: NodeFiles) -> None:
        control.prepare()
        users: dict[str, tuple[str, list[str]]] = {
            "kube-controller-manager": ("system:kube-controller-manager", []),
            "kube-scheduler": ("system:kube-scheduler", []),
            "kube-proxy": ("system:kube-proxy", []),
            "coredns": ("coredns", []),
            "kubelet": (f"system:node:{self.name}", ["system:nodes"]),
        }
        for file, (user, groups) in users.items():
            control.user_kubeconfig(file, name=user, groups=groups)
        addresses = [files.network.node, self.name]
        control.authority().issue(
            control.pki,
            "kubelet",
            name=f"system:node:{self.name}",
            groups=["system:nodes"],
            addresses=addresses,
        )
        files.write()

    def _rest(self, control: Control, files: NodeFiles) -> dict[str, list[str]]:
        localkube, users = str(programs.ensure(programs.LOCALKUBE)), control.directory
        return {
            "kube-controller-manager": [
                localkube, "kube-controller-manager",
                f"--kubeconfig={users / 'kube-controller-manager.kubeconfig'}",
                f"--service-account-private-key-file={control.service_account_key}",
                f"--root-ca-file={control.authority_file}",
                "--use-service-account-credentials", "--leader-elect=false", "--secure-port=0",
            ],
            "kube-scheduler": [
                localkube, "kube-scheduler", f"--kubeconfig={users / 'kube-scheduler.kubeconfig'}",
                "--leader-elect=false", "--secure-port=0",
            ],
            "kube-proxy": [localkube, "kube-proxy", f"--config={files.proxy}"],
            "coredns": [str(programs.ensure(programs.COREDNS)), "-conf", str(files.corefile)],
            "kubelet": [
                localkube, "kubelet", f"--config={files.kubelet}", f"--kubeconfig={users / 'kubelet.kubeconfig'}",
                f"--hostname-override={self.name}", f"--node-ip={files.network.node}",
                f"--root-dir={self.directory / 'kubelet'}",
            ],
        }  # fmt: skip

    def _apply(self, objects: Sequence[object]) -> None:
        path = self.directory / "config" / "objects.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))

    def _load_pause(self) -> None:
        archive = self.directory / "pause.tar"
        archives.single_file_image(archive, PAUSE_IMAGE, programs.ensure(programs.PAUSE))
        deadline = time.monotonic() + 30
        while True:
            try:
                self.load(archive)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _wait(self, what: str, deadline: float, problem: Callable[[], str | None]) -> None:
        while (why := problem()) is not None:
            for name in self._seen:
                if self._running.ended(name):
                    raise ClusterError(f"{name} ended:\n{self._running.log_end(name)}")
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} is not ready: {why} (logs: {self.directory / 'run'})")
            time.sleep(0.1)

    def _node_not_ready(self) -> str | None:
        ready = self.kubectl("get", "node", self.name, "-o", _READY, check=False)
        return None if ready.stdout == "True" else ready.stdout or ready.stderr.strip()

    def _dns_not_ready(self, network: Network) -> str | None:
        # kube-proxy has written the rules when the Service's address answers from inside.
        rules = self._node(network).run("iptables-save", "-t", "nat")
        if f"-d {network.dns}/32" not in rules.stdout:
            return rules.stderr.strip() or "no rule for its Service yet"
        return None

    # ---- What it stands on -------------------------------------------------------------------------------

    def _check(self) -> None:
        missing = node.missing_packages()
        if os.geteuid() != 0:
            more = f", and the Debian packages {' '.join(missing)}" if missing else ""
            raise ClusterError(
                "a cluster of our own needs root (for namespaces, a network link, cgroups and containers)"
                f"{more}; run it as root, or use CLUSTER=kind with Docker, or CLUSTER=current"
            )
        if missing:
            install(missing)
        if len(str(self.directory / "containerd.sock")) > _SOCKET_PATH_MAX:
            raise ClusterError(
                f"{self.directory} is too long a path for a socket; choose a shorter --state"
            )
        for hidden in (Path("/run"), Path("/var/run"), Path("/var/log"), Path("/var/lib/cni")):
            if self.directory.is_relative_to(hidden):
                raise ClusterError(
                    f"the state cannot be below {hidden}: the node has one of its own"
                )

    def _claim_folder(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._is_ours() and any(self.directory.iterdir()):
            raise ClusterError(
                f"{self.directory} holds other things; give --state a folder of its own"
            )
        (self.directory / _MARK).touch()

    def _is_ours(self) -> bool:
        return any((self.directory / name).exists() for name in (_MARK, "cluster.json"))

    def _need_root(self) -> None:
        if os.geteuid() != 0:
            raise ClusterError("this needs root: the cluster's programs are root's")

    def _node(self, network: Network) -> Node:
        return Node(self.name, self.directory, network, self._running)

    def _control(self, network: Network) -> Control:
        return Control(
            self.directory, 6443, 2379, 2380, address=network.node,
            service_range=network.services, service_address=network.api,
        )  # fmt: skip

    def _files(self, network: Network) -> NodeFiles:
        return NodeFiles(self.directory, network, self._control(network), self.name)

    def _noted_number(self) -> int | None:
        try:
            return int(json.loads((self.directory / "cluster.json").read_text())["number"])
        except (OSError, ValueError, KeyError):
            return None

    def _take_number(self) -> int:
        if self._number is None:
            with programs.locked(cache() / "clusters.lock"):
                others = self.directory.parent.glob("*/cluster.json")
                taken = {json.loads(one.read_text())["number"] for one in others}
                self._number = node.free_number(taken)
                fresh = self.directory / "cluster.json.new"
                fresh.write_text(json.dumps({"name": self.name, "number": self._number}))
                fresh.replace(self.directory / "cluster.json")
        return self._number


_READY = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"


def install(packages: Sequence[str]) -> None:
    """Install Debian packages as root, without starting what they bring.

    Raises:
        ClusterError: It failed.
    """
    say(f"installing the Debian packages {' '.join(packages)} …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    options = ["-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    steps = (["apt-get", "update", "-q"], ["apt-get", "install", *options, *packages])
    with programs.locked(cache() / "apt.lock"):  # Images may be made meanwhile.
        for step in steps:
            done = subprocess.run(
                step, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                end = (done.stderr or done.stdout)[-2000:]
                raise ClusterError(f"{' '.join(step)} failed: {end}")


def found(program: str) -> str | None:
    """Return where a program of the system is, also when only root's PATH leads there."""
    return shutil.which(program, path=node.PATH)


def require_packages(packages: Sequence[str]) -> None:
    """Install Debian packages as root, or say that they are needed.

    Raises:
        ClusterError: They are not there now.
    """
    if os.geteuid() != 0 or found("apt-get") is None:
        raise ClusterError(
            f"these Debian packages are needed: {' '.join(packages)}; install them, or run this as root"
        )
    install(packages)
