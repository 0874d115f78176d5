"""The command ``tools/cluster``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sluice_dev.cluster import archives, certmanager, programs
from sluice_dev.cluster.errors import ClusterError
from sluice_dev.cluster.images import IMAGES, Images
from sluice_dev.cluster.local import LocalCluster
from sluice_dev.cluster.others import CurrentCluster, KindCluster
from sluice_dev.cluster.programs import BuildError, say

_ABOUT = """\
A Kubernetes cluster for demonstrations and end-to-end tests.

CLUSTER=local (the default) makes one node on this machine without Docker; it needs root.
CLUSTER=kind makes it with kind, which needs Docker. CLUSTER=current uses what kubectl uses now.
"""


_AVAILABLE = [
    "-n", certmanager.NAMESPACE, "rollout", "status", "deployment/cert-manager", "--timeout=180s",
]  # fmt: skip


class Cluster(Protocol):
    """What each kind of cluster can do."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        ...

    def up(self) -> str:
        """Bring it up, or what of it is missing; return a sentence about it."""
        ...

    def down(self) -> bool:
        """Remove it; return whether there was anything."""
        ...

    def status(self) -> dict[str, str]:
        """Return what runs and what does not; empty when it is not there."""
        ...

    def load(self, archive: Path) -> None:
        """Put the images of a docker-archive tar on its nodes."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows `kubectl` is kubectl's, also where it starts with a dash.
    end = words.index("kubectl") + 1 if "kubectl" in words else len(words)
    options = _parser().parse_args(words[:end])
    options.arguments = words[end:]
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (ClusterError, BuildError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/cluster",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--name", default="sluice", help="of the cluster; several can stand side by side"
    )
    parser.add_argument(
        "--state",
        type=Path,
        help="folder of all that a local one keeps",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    up = add("up", _up, "bring it up, or what of it does not run")
    up.add_argument(
        "--api-only",
        action="store_true",
        help="etcd and kube-apiserver until Ctrl-C, no node: needs no root",
    )
    up.add_argument(
        "--with",
        dest="extra",
        choices=["cert-manager"],
        help="and put this on it, built from its Go module",
    )
    add("down", _down, "end and remove everything of it")
    add("status", _status, "what runs and what does not; exit code 0 when it is ready")
    add("kubeconfig", _kubeconfig, "print the path of the administrator's kubeconfig")
    add(
        "env", _env, "print what scripts need as one JSON object: kubeconfig, kubectl, helm, images"
    )
    add(
        "load", _load, "put images on its nodes: docker-archive tars, or names of images built here"
    ).add_argument("image", nargs="+")
    add(
        "images", _images, "build the images that changed and put all of them on its nodes"
    ).add_argument("--build-only", action="store_true", help="do not load them")
    add("kubectl", _kubectl, "run kubectl on it")
    return parser


def _cluster(options: argparse.Namespace) -> Cluster:
    kind = os.environ.get("CLUSTER") or "local"
    if kind == "local":
        return LocalCluster(options.name, options.state)
    if kind == "kind":
        return KindCluster(options.name)
    if kind == "current":
        return CurrentCluster()
    raise ClusterError(f"CLUSTER={kind} is none of local, kind, current")


def _up(options: argparse.Namespace) -> int:
    if options.api_only:
        return _serve_api()
    cluster = _cluster(options)
    say(cluster.up())
    if options.extra == "cert-manager":
        certmanager.put(cluster.load, lambda text: _apply(cluster, text))
        say("cert-manager is on it")
    return 0


def _apply(cluster: Cluster, documents: str) -> None:
    command = [*programs.kubectl_command(), f"--kubeconfig={cluster.kubeconfig}"]
    # Server-side: the definitions are larger than kubectl's annotation may be.
    for more in (["apply", "--server-side", "--force-conflicts", "-f", "-"], _AVAILABLE):
        done = subprocess.run(
            [*command, *more], input=documents, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ClusterError(f"kubectl {more[0]}: {done.stderr.strip()[-2000:]}")


def _serve_api() -> int:
    from sluice_dev.cluster.api import ApiServer  # noqa: PLC0415 - only here.

    with ApiServer() as server:
        print(server.kubeconfig, flush=True)
        say("an API server until Ctrl-C")
        try:
            server.wait()
        except KeyboardInterrupt:
            return 0
    return 1


def _down(options: argparse.Namespace) -> int:
    say("removed" if _cluster(options).down() else "there was none")
    return 0


def _status(options: argparse.Namespace) -> int:
    found = _cluster(options).status()
    if not found:
        print("not there")
        return 1
    for part, state in found.items():
        print(f"{part:<24} {state}")
    return 0 if found.get("ready") == "yes" else 1


def _kubeconfig(options: argparse.Namespace) -> int:
    print(_cluster(options).kubeconfig)
    return 0


def _env(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    names = {image.key: image.name for image in IMAGES}
    if isinstance(cluster, CurrentCluster):
        names = {key: cluster.image_name(key, name) for key, name in names.items()}
    values = {
        "kubeconfig": str(cluster.kubeconfig),
        "kubectl": str(programs.kubectl_link()),
        "helm": str(programs.ensure(programs.HELM)),
        "images": names,
        "contents": cluster.loaded() if isinstance(cluster, LocalCluster) else {},
    }
    print(json.dumps(values, indent=1))
    return 0


def _load(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    images: Images | None = None
    for wanted in options.image:
        archive = Path(wanted)
        if not archive.is_file():
            images = images or Images()
            archive = images.ensure(wanted)
        cluster.load(archive)
        say(f"loaded {', '.join(archives.contents(archive)) or archive}")
    return 0


def _images(options: argparse.Namespace) -> int:
    cluster = None if options.build_only else _cluster(options)
    if isinstance(cluster, CurrentCluster) and cluster.has_images():
        return 0
    images = Images()
    built = {image: images.ensure(image.name) for image in IMAGES}
    for image, archive in built.items():
        if cluster is None:
            print(image.name, archive)
        else:
            cluster.load(archive)
    return 0


def _kubectl(options: argparse.Namespace) -> int:
    command = [
        *programs.kubectl_command(),
        f"--kubeconfig={_cluster(options).kubeconfig}",
        *options.arguments,
    ]
    os.execv(command[0], command)  # noqa: S606 - kubectl takes our place: signals and terminal are its own.
