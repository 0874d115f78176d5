"""The namespaces of a cluster's node: one process holds them, and with it everything inside ends.

Everything of a cluster runs in a network, mount and pid namespace of its own. So the machine's own iptables rules,
mounts, /run and /var/log are never touched, two clusters do not meet, and whatever is killed, the kernel cleans up.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from sluice_dev.cluster import processes, programs
from sluice_dev.cluster.processes import Processes

_CGROUPS = Path("/sys/fs/cgroup")
_CNI_STATE = Path("/var/lib/cni")

_SETUP = r"""
mount --make-rshared /
mount -t tmpfs -o mode=0755 sluice /run
mkdir -p /run/lock /run/netns /run/containerd
mount -t tmpfs -o mode=0755 sluice /var/log
mount -t tmpfs -o mode=0755 sluice /var/lib/cni
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
exec "$0" "$1"
"""


class NodeError(RuntimeError):
    """The node's namespaces could not be made; the message has what the system said."""


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses of the cluster with a number, all of its own."""

    number: int

    @property
    def link(self) -> str:
        """The machine's end of the only cable to the node."""
        return f"sluice{self.number}"

    @property
    def outside(self) -> str:
        """The machine's address on it."""
        return f"10.202.{self.number}.1"

    @property
    def node(self) -> str:
        """The node's address."""
        return f"10.202.{self.number}.2"

    @property
    def pods(self) -> str:
        """Range of the pods' addresses."""
        return f"10.201.{self.number}.0/24"

    @property
    def services(self) -> str:
        """Range of the Services' addresses."""
        return f"10.203.{self.number}.0/24"

    @property
    def api(self) -> str:
        """Address of Service ``kubernetes``."""
        return f"10.203.{self.number}.1"

    @property
    def dns(self) -> str:
        """Address of Service ``kube-dns``."""
        return f"10.203.{self.number}.10"


class Node:
    """Namespaces and cable of one cluster."""

    def __init__(self, name: str, directory: Path, network: Network, running: Processes) -> None:
        """Describe it; ``up`` makes it."""
        self.name, self._directory, self.network, self._running = name, directory, network, running
        self._marker = f"sluice-node:{directory}/"  # Closed: a folder's name may begin another's.

    @property
    def holder(self) -> int | None:
        """The process whose end is the end of everything inside; None: there is none."""
        return self._running.pid("node")

    def up(self) -> int:
        """Make the namespaces and the cable unless they are there; return the process that holds them."""
        pause = programs.ensure(programs.PAUSE)
        if self.holder is None:
            self._leave_nothing()
            self._hold(pause)
        holder = self.holder
        if holder is None:
            raise NodeError(f"the node's first process ended: {self._running.log_end('node')}")
        if not _exists(self.network.link):
            self._connect(holder)
        return holder

    def down(self) -> None:
        """End everything inside and remove cable and cgroups; harmless when there is nothing."""
        self._leave_nothing()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a short command inside and return what it did."""
        inside = ["nsenter", "--mount", "--net", "--pid", f"--target={self.holder}", "--"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, check=False)

    def _hold(self, pause: Path) -> None:
        _CNI_STATE.mkdir(parents=True, exist_ok=True)  # Only a place to mount on.
        command = [
            "unshare", "--mount", "--net", "--pid", "--fork", "--propagation=private", "--mount-proc",
            "--", "/bin/sh", "-ec", _SETUP, str(pause), self._marker,
        ]  # fmt: skip
        self._running.log("node").parent.mkdir(parents=True, exist_ok=True)
        with self._running.log("node").open("wb") as output:
            starter = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            for pid in processes.children_of(starter.pid):
                if processes.program_of(pid) == str(pause):
                    self._running.adopt("node", pid, starter)
                    return
            if starter.poll() is not None:
                break
            time.sleep(0.01)
        raise NodeError(f"no namespaces for the node: {self._running.log_end('node')}")

    def _connect(self, holder: int) -> None:
        net = self.network
        _ip("link", "add", net.link, "type", "veth", "peer", "name", "eth0", "netns", str(holder))
        inside = (
            f"ip address add {net.node}/30 dev eth0 && ip link set eth0 up"
            f" && ip route add default via {net.outside}"
        )
        done = self.run("/bin/sh", "-ec", inside)
        if done.returncode:
            raise NodeError(f"the node's network: {done.stderr.strip()}")
        _ip("address", "add", f"{net.outside}/30", "dev", net.link)
        _ip("link", "set", net.link, "up")
        # The machine reaches pods and Services as a client inside would.
        for destination in (net.pods, net.services):
            _ip("route", "add", destination, "via", net.node)

    def _leave_nothing(self) -> None:
        self._running.stop("node", signal.SIGKILL)
        # A command killed between the start and the note leaves processes that only their command line tells.
        for pid in processes.matching(self._marker):
            with contextlib.suppress(ProcessLookupError):
                processes.end(pid, signal.SIGKILL)
        # What was inside ends with the first process, but not in the same moment.
        deadline = time.monotonic() + 15
        while self.cgroups_left() and time.monotonic() < deadline:
            self._remove_cgroups()
            time.sleep(0.05)
        if _exists(self.network.link):  # It goes with the node's end of it, at any moment now.
            with contextlib.suppress(NodeError):
                _ip("link", "delete", self.network.link)
        deadline = time.monotonic() + 5
        while _exists(self.network.link) and time.monotonic() < deadline:
            time.sleep(0.05)

    def cgroups_left(self) -> list[Path]:
        """Return the cgroup folders of the node's containers."""
        # containerd puts every container below /k8s.io by its id, those of other clusters as well.
        kept = self._directory / "containerd" / "io.containerd.grpc.v1.cri"
        ids = {one.name for one in [*kept.glob("sandboxes/*"), *kept.glob("containers/*")]}
        # Version 1 has one tree for each controller, version 2 a single one.
        places = [*_CGROUPS.glob("*/k8s.io/*"), *_CGROUPS.glob("k8s.io/*")]
        return [one for one in places if one.name in ids]

    def _remove_cgroups(self) -> None:
        found = self.cgroups_left()
        for top in found:
            below = sorted((one for one in top.rglob("*") if one.is_dir()), reverse=True)
            for folder in [*below, top]:
                with contextlib.suppress(OSError):  # Somebody is still in it.
                    folder.rmdir()
        for parent in {one.parent for one in found}:
            with contextlib.suppress(OSError):  # Others' containers are in it.
                parent.rmdir()


def missing_packages() -> list[str]:
    """Return the Debian packages whose programs this machine lacks."""
    wanted = {
        "containerd": "containerd",
        "runc": "runc",
        "iptables": "iptables",
        "conntrack": "conntrack",
        "ip": "iproute2",
        "unshare": "util-linux",
    }
    found = [
        package for program, package in wanted.items() if shutil.which(program, path=PATH) is None
    ]
    if not Path("/usr/lib/cni/ptp").exists():
        found.append("containernetworking-plugins")
    return found


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def free_number(taken: set[int]) -> int:
    """Return the lowest number whose addresses nobody uses on this machine.

    Raises:
        NodeError: There is none.
    """
    routes = subprocess.run(
        ["ip", "-4", "route"], capture_output=True, text=True, check=False
    ).stdout
    for number in range(64):
        network = Network(number)
        starts = [network.pods[:-4], network.services[:-4], network.node[:-1]]
        if number in taken or _exists(network.link) or any(start in routes for start in starts):
            continue
        return number
    raise NodeError(
        "no free network: 64 clusters, or routes of others, take 10.201.0.0/18 to 10.203.0.0/18"
    )


def _exists(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and "File exists" not in done.stderr:
        raise NodeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
