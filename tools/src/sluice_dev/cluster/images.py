"""The images of Sluice and of its demonstration, built here without a daemon and kept as docker-archive tars.

A base image comes from Debian's packages (mmdebstrap), wheels are made outside, buildah runs the Dockerfiles without a
network. Each archive is kept by a hash of all that goes into it, so that a build with nothing new does nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sluice_dev.cache import ROOT, cache, opa, opa_version
from sluice_dev.cluster import archives, local, programs, wheels
from sluice_dev.cluster.errors import ClusterError
from sluice_dev.cluster.programs import say

_SUITE = "bookworm"
_PYTHON = wheels.Python("3.11", 36)
"""What Debian 12 has."""

_PACKAGES = {
    "base": ("python3", "python3-venv", "ca-certificates"),
    "base-postgres": ("postgresql", "libnss-wrapper"),
}

_LAYERS_MAX = 80
"""Intermediate images in buildah's store; they are what makes the next build quick."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image: how it is called, and the Dockerfile that makes it (None: made from OPA's program alone)."""

    key: str
    dockerfile: str | None
    base: str = "base"

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return f"localhost/sluice/{self.key}:dev"


IMAGES = (
    Image("operator", "operator/Dockerfile"),
    Image("proxy", "proxy/Dockerfile"),
    Image("opa", None),
    Image("demo", "examples/kubernetes/app/Dockerfile"),
    Image("postgres", "examples/kubernetes/postgres/Dockerfile", base="base-postgres"),
)


class Images:
    """Builds what is missing."""

    def __init__(self) -> None:
        """Look at the cache; nothing is built."""
        self._folder = cache() / "images"

    def ensure(self, wanted: str) -> Path:
        """Return the archive of an image, by its key or whole name, built first when something in it changed.

        Raises:
            ClusterError: There is no such image, or its build failed.
        """
        image = next((one for one in IMAGES if wanted in (one.key, one.name)), None)
        if image is None:
            known = ", ".join(one.name for one in IMAGES)
            raise ClusterError(
                f"{wanted} is neither a file nor one of the images built here: {known}"
            )
        with programs.locked(cache() / "images.lock"):
            folder = (
                self._opa(image)
                if image.dockerfile is None
                else self._from_dockerfile(image, image.dockerfile)
            )
        return folder / f"{image.key}.tar"

    def _opa(self, image: Image) -> Path:
        program = _opa()

        def make(folder: Path) -> None:
            archives.single_file_image(folder / "opa.tar", image.name, program, user="1000:1000")

        return wheels.kept(
            "images", image.key, wheels.digest([opa_version().encode(), image.name.encode()]), make
        )

    def _from_dockerfile(self, image: Image, dockerfile: str) -> Path:
        path = ROOT / dockerfile
        parts = self._context(image)
        names = [f"{target}={source}" for target, source in sorted(parts.items())]
        # An example's folder is its context; of a package's folder only the Dockerfile is.
        ours = image.key in ("operator", "proxy")
        own = [path] if ours else [one for one in path.parent.iterdir() if one.is_file()]
        decides = [wheels.digest_of(own), _base_key(image.base), image.name, *names]
        key = wheels.digest(text.encode() for text in decides)

        def make(folder: Path) -> None:
            begun = time.monotonic()
            base = self._base(image.base)
            say(f"images: building {image.name} …")
            with tempfile.TemporaryDirectory(prefix="sluice-image-") as context:
                _fill(Path(context), parts, own)
                self._build(image, base, Path(context), folder / f"{image.key}.tar")
            say(f"images: built {image.name} in {time.monotonic() - begun:.0f} s")

        return wheels.kept("images", image.key, key, make)

    def _context(self, image: Image) -> dict[str, Path]:
        """Return the folders and files that a Dockerfile finds beside itself, by their names there."""
        if image.key in ("operator", "proxy"):
            package = f"sluice-{image.key}"
            parts = {f"wheels/own/{name}": wheels.built(name) for name in wheels.members(package)}
            parts["wheels/needs/all"] = wheels.downloaded(package, _PYTHON)
            if image.key == "operator":
                parts["opa"] = _opa()
            return parts
        if image.key == "demo":
            return {"wheels/needs": wheels.downloaded("sluice-dev", _PYTHON)}
        return {}

    def _build(self, image: Image, base: str, context: Path, archive: Path) -> None:
        version = _version()
        self._buildah(
            "bud", "--isolation=chroot", "--pull=never", "--format=docker", "--timestamp=0", "--quiet", "--layers",
            f"--build-arg=BASE={base}", f"--build-arg=VERSION={version}", f"--build-arg=REVISION={_revision()}",
            f"--tag={image.name}", str(context),
        )  # fmt: skip
        self._buildah("push", "--quiet", image.name, f"docker-archive:{archive}:{image.name}")
        if len(self._buildah("images", "--all", "--quiet").split()) > _LAYERS_MAX:
            self._buildah("rmi", "--prune", "--force")

    def _base(self, name: str) -> str:
        """Return the name of a base image in buildah's store, made first when it is not there."""
        tag = f"localhost/sluice/{name}:{_base_key(name)}"
        if tag in self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            return tag
        begun = time.monotonic()
        say(f"images: making a base image of Debian {_SUITE} with {', '.join(_PACKAGES[name])} …")
        _need("mmdebstrap")
        with tempfile.TemporaryDirectory(prefix="sluice-base-") as temporary:
            context = Path(temporary)
            excluded = ("doc", "man", "info", "locale", "lintian")
            options = [f"--dpkgopt=path-exclude=/usr/share/{one}/*" for one in excluded]
            _run(
                "nice", "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES[name])}",
                '--aptopt=APT::Install-Recommends "0"', *options, _SUITE, str(context / "base.tar"),
            )  # fmt: skip
            (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            self._buildah(
                "bud",
                "--isolation=chroot",
                "--format=docker",
                "--quiet",
                f"--tag={tag}",
                str(context),
            )
        say(f"images: made it in {time.monotonic() - begun:.0f} s")
        return tag

    def _buildah(self, *arguments: str) -> str:
        _need("buildah")
        store = ["--root", str(self._folder / "store"), "--runroot", str(self._folder / "run")]
        # In a network namespace of its own, without any network: what a build needs is in its context.
        return _run(
            "unshare", "--net", "nice", "buildah", *store, "--storage-driver=overlay", *arguments
        )


def _base_key(name: str) -> str:
    return wheels.digest([_SUITE.encode(), *(one.encode() for one in _PACKAGES[name])])


def _fill(context: Path, parts: dict[str, Path], own: list[Path]) -> None:
    for file in own:
        shutil.copy2(file, context / file.name)
    for name, source in parts.items():
        target = context / name
        if source.is_dir():  # What lies in several folders comes into one.
            target = target.parent
            target.mkdir(parents=True, exist_ok=True)
            for wheel in source.iterdir():
                shutil.copy2(wheel, target / wheel.name)
        else:
            shutil.copy2(source, target)


def _opa() -> Path:
    try:
        return opa()
    except FileNotFoundError as error:
        raise ClusterError(str(error)) from None


def _version() -> str:
    text = (ROOT / "operator" / "pyproject.toml").read_text()
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("version"))


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _need(program: str) -> None:
    if local.found(program) is None:
        local.require_packages([program])


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-3000:]}")
    return done.stdout
