"""Clusters that others make: kind's, and whichever kubectl uses now."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from sluice_dev.cluster import programs
from sluice_dev.cluster.errors import ClusterError
from sluice_dev.cluster.local import state_folder


class KindCluster:
    """A cluster in a container, by kind; needs Docker (or Podman: ``KIND_EXPERIMENTAL_PROVIDER=podman``)."""

    def __init__(self, name: str) -> None:
        """Describe it; nothing is started."""
        self.name = name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, a file of its own."""
        return state_folder(f"kind-{self.name}") / "admin.kubeconfig"

    def up(self) -> str:
        """Create it unless it is there."""
        if self.name not in self._clusters():
            self.kubeconfig.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            image = os.environ.get("KIND_IMAGE") or f"kindest/node:v{programs.KUBERNETES}"
            self._kind("create", "cluster", "--image", image, "--wait=3m", *self._ours())
        elif not self.kubeconfig.exists():
            self.kubeconfig.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._kind("export", "kubeconfig", *self._ours())
        return f"kind's cluster {self.name} is up; kubeconfig: {self.kubeconfig}"

    def down(self) -> bool:
        """Delete it."""
        there = self.name in self._clusters()
        if there:
            self._kind("delete", "cluster", *self._ours())
        shutil.rmtree(self.kubeconfig.parent, ignore_errors=True)
        return there

    def status(self) -> dict[str, str]:
        """Return whether it is there."""
        return {"ready": "yes"} if self.name in self._clusters() else {}

    def load(self, archive: Path) -> None:
        """Put the images of a docker-archive tar on its nodes."""
        self._kind("load", "image-archive", str(archive), f"--name={self.name}")

    def _ours(self) -> list[str]:
        return [f"--name={self.name}", f"--kubeconfig={self.kubeconfig}"]

    def _clusters(self) -> list[str]:
        return self._kind("get", "clusters").split()

    def _kind(self, *arguments: str) -> str:
        if not (shutil.which("docker") or shutil.which("podman")):
            raise ClusterError(
                "kind needs Docker; install it, or leave CLUSTER empty for a cluster without it"
            )
        command = [str(programs.ensure(programs.KIND)), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"kind {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout


class CurrentCluster:
    """The cluster of the current kubeconfig; it is neither made nor removed here.

    How images get to its nodes only its owner knows, and says by one of two environment variables: ``LOAD``, a command
    in which ``{}`` is an archive's path; ``IMAGES``, where they are already.
    """

    @property
    def kubeconfig(self) -> Path:
        """What kubectl reads: the first file of KUBECONFIG, or its usual one."""
        named = [one for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
        return Path(named[0]) if named else Path.home() / ".kube" / "config"

    def up(self) -> str:
        """Look whether it answers."""
        if self.status().get("ready") != "yes":
            raise ClusterError(f"no cluster answers under {self.kubeconfig}; set KUBECONFIG")
        return f"using the cluster of {self.kubeconfig}"

    def down(self) -> bool:
        """Leave it as it is."""
        return False

    def status(self) -> dict[str, str]:
        """Return whether its API server is ready."""
        if not self.kubeconfig.exists():
            return {}
        command = [
            *programs.kubectl_command(),
            f"--kubeconfig={self.kubeconfig}",
            "get",
            "--raw=/readyz",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return {"ready": "yes" if done.stdout == "ok" else done.stderr.strip()}

    def load(self, archive: Path) -> None:
        """Run the owner's command.

        Raises:
            ClusterError: There is none, or it failed.
        """
        command = os.environ.get("LOAD")
        if not command:
            raise ClusterError(HOW_IMAGES_GET_THERE)
        if os.environ.get(LOADING):
            raise ClusterError(
                f"LOAD: {command}: it calls this very command, which would call it again, for ever; "
                "if it loads by tools/cluster into a cluster made here, write "
                "LOAD='env -u CLUSTER tools/cluster load {}'"
            )
        filled = command.replace("{}", shlex.quote(str(archive)))
        environment = {**os.environ, LOADING: "1"}
        done = subprocess.run(  # noqa: S602  The owner's own.
            filled, shell=True, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            raise ClusterError(f"LOAD: {filled}: {(done.stderr or done.stdout).strip()[-2000:]}")

    def has_images(self) -> bool:
        """Return whether its owner has put the images where it finds them.

        Raises:
            ClusterError: Nobody said how they get there.
        """
        if os.environ.get("IMAGES"):
            return True
        if not os.environ.get("LOAD"):
            raise ClusterError(HOW_IMAGES_GET_THERE)
        return False

    def image_name(self, key: str, name: str) -> str:
        """Return the name of an image there."""
        where = os.environ.get("IMAGES", "").rstrip("/")
        return f"{where}/{key}:dev" if where else name


LOADING = "SLUICE_LOADING"
"""In the environment of the command that LOAD is: a load that is asked for from there leads back here."""

HOW_IMAGES_GET_THERE = """\
how images get to your cluster's nodes only you know; say one of
  LOAD='minikube image load {}'   a command that is run for each archive; {} is its path, as `docker save` writes it
                                  (k3d: 'k3d image import {}'; k3s: 'k3s ctr images import {}')
  IMAGES=registry.example/team    where they are already, as operator:dev, proxy:dev, opa:dev, demo:dev, postgres:dev
                                  (`make images` prints the archives: docker load, docker tag, docker push)"""
