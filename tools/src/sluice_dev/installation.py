"""Sluice installed in a cluster: which cluster, which images, and the chart's release."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice_dev.cache import ROOT
from sluice_dev.kubectl import Kubectl
from sluice_dev.story import Images

NAMESPACE = "sluice-system"
RELEASE = "sluice"
CHART = ROOT / "helm" / "sluice"
COMPONENTS = ("controller", "admission", "bundles")


@dataclass(frozen=True)
class Installation:
    """A cluster and the names of the images in it."""

    kubectl: Kubectl
    images: dict[str, str]
    contents: dict[str, str] = field(default_factory=dict[str, str])
    """What tells the content of an image, by its name, where that is known."""

    @property
    def demo(self) -> Images:
        """The images that are not Sluice's own."""
        return Images(demo=self.images["demo"], postgres=self.images["postgres"])

    def values(self) -> list[str]:
        """Return helm's arguments that name the images."""
        arguments: list[str] = []
        for name in ("operator", "proxy", "opa"):
            repository, _, tag = self.images[name].rpartition(":")
            arguments += [
                "--set", f"images.{name}.repository={repository}", "--set-string", f"images.{name}.tag={tag}",
            ]  # fmt: skip
        # Built anew, an image keeps its name: the processes must start anew all the same.
        content = self.contents.get(self.images["operator"], "").removesuffix(".json")[:16]
        for component in COMPONENTS if content else ():
            arguments += ["--set-string", f"{component}.podAnnotations.image-content={content}"]
        return arguments

    def upgrade(self, *more: str, timeout_s: int = 300) -> None:
        """Install the chart or bring its release to these values, and wait until everything is ready."""
        self.kubectl.helm(
            "upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace",
            "--wait", "--timeout", f"{timeout_s}s", *self.values(), *more, timeout_s=timeout_s + 30,
        )  # fmt: skip

    def installed(self) -> bool:
        """Return whether the release is there and its Deployments are available."""
        for component in COMPONENTS:
            found = self.kubectl.find("-n", NAMESPACE, "deployment", f"sluice-{component}")
            if not found or not found.get("status", {}).get("availableReplicas"):
                return False
        return True

    def uninstall(self) -> None:
        """Remove the release and what it keeps on purpose: guards, definitions, and with them every policy."""
        self.kubectl.helm(
            "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"
        )
        mine = "-lapp.kubernetes.io/part-of=sluice"
        self.kubectl.run(
            "delete", "validatingadmissionpolicy,validatingadmissionpolicybinding,crd", mine, "--ignore-not-found"
        )  # fmt: skip
        self.kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found")


def _cluster(*arguments: str, say: Callable[[str], None] | None = None) -> str:
    """Run tools/cluster; its answer goes to ``say`` line by line, its progress to standard error."""
    command = [str(ROOT / "tools" / "cluster"), *arguments]
    out: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            out.append(line)
            if say:
                say(line.rstrip())
    if process.returncode:
        raise SystemExit(f"tools/cluster {' '.join(arguments)} failed\n{''.join(out)[-2000:]}")
    return "".join(out)


def bring_up(say: Callable[[str], None]) -> Installation:
    """Bring the cluster up that ``CLUSTER`` names, with the images built and loaded.

    What is not built yet is built side by side, as each build leaves processors idle at times. What fails is told by
    the step that needs it.
    """
    with ExitStack() as stack:
        # IMAGES: they are in a registry already.
        ahead = _AHEAD[1:] if os.environ.get("IMAGES") else _AHEAD
        beside = [stack.enter_context(_begun(*arguments)) for arguments in ahead]
        _cluster("up", say=say)
        for process in beside:
            process.wait()
    _cluster("images", say=say)
    return connect()


_AHEAD = (("images", "--build-only"), ("env",))
"""Commands of tools/cluster that build what comes later: the images; Helm."""


@contextmanager
def _begun(*arguments: str) -> Generator[subprocess.Popen[bytes]]:
    """Run tools/cluster beside the body, and end it with the body."""
    command = [str(ROOT / "tools" / "cluster"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def take_down(say: Callable[[str], None]) -> None:
    """Remove the cluster, if it is ours to remove."""
    _cluster("down", say=say)


def connect() -> Installation:
    """Return the installation in the running cluster."""
    found: dict[str, Any] = json.loads(_cluster("env"))
    kubectl = Kubectl(Path(found["kubeconfig"]), _words(found["kubectl"]), _words(found["helm"]))
    return Installation(kubectl, dict(found["images"]), dict(found.get("contents", {})))


def _words(program: str | list[str]) -> list[str]:
    return [program] if isinstance(program, str) else list(program)


def is_local() -> bool:
    """Return whether the cluster is one of ours on this machine, whose keys we have."""
    return os.environ.get("CLUSTER", "") in ("", "local")


def service_account_key() -> Path:
    """Return the key that our own cluster's API server signs service account tokens with."""
    found: dict[str, Any] = json.loads(_cluster("env"))
    return Path(found["kubeconfig"]).parent / "pki" / "service-accounts.key"


def is_ours() -> bool:
    """Return whether the cluster is one that we brought up, not the user's own."""
    return os.environ.get("CLUSTER", "") != "current"
