"""Wheels for images: our packages built here, what they need downloaded, each kept by a hash of what decides it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sluice_dev.cache import ROOT, cache
from sluice_dev.cluster.errors import ClusterError
from sluice_dev.cluster.programs import say

_MEMBERS = {
    "sluice-crds": "crds",
    "sluice-policy": "policy",
    "sluice-proxy": "proxy",
    "sluice-operator": "operator",
}
_KEPT = 4
"""Older results of each kind that stay in the cache."""


class Python:
    """The interpreter of the images, as pip names it."""

    def __init__(self, version: str, glibc_minor: int) -> None:
        """Name it.

        Args:
            version: For example ``3.11``.
            glibc_minor: Of glibc 2, the newest that wheels may need.
        """
        self.version, self.glibc_minor = version, glibc_minor

    def pip_options(self) -> list[str]:
        """Return what makes pip choose wheels for it, whatever it runs on."""
        abi = "cp" + self.version.replace(".", "")
        machine = os.uname().machine
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(self.glibc_minor, 4, -1)]
        platforms += [f"manylinux2014_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
        return [
            f"--python-version={self.version}", "--implementation=cp",
            *(f"--abi={one}" for one in (abi, "abi3", "none")),
            *(f"--platform={one}" for one in platforms),
        ]  # fmt: skip


def requirements(package: str) -> str:
    """Return what a package of ours needs from elsewhere, pinned by version and hash as uv.lock has it."""
    command = [
        "export",
        "--locked",
        "--no-dev",
        "--no-emit-workspace",
        "--no-header",
        "--package",
        package,
    ]
    return _uv([*command, "--format=requirements.txt", "--no-annotate"])


def downloaded(package: str, python: Python) -> Path:
    """Return a folder with the wheels of everything a package of ours needs from elsewhere."""
    text = requirements(package)
    key = digest([text.encode(), " ".join(python.pip_options()).encode()])

    def make(folder: Path) -> None:
        say(f"images: downloading what {package} needs …")
        wanted = folder / "requirements.txt"
        wanted.write_text(text)
        _uv(
            [
                "tool", "run", "--python", sys.executable, "pip", "download", "--quiet", "--disable-pip-version-check",
                "--no-deps", "--only-binary=:all:", "--require-hashes", *python.pip_options(),
                f"--dest={folder}", f"--requirement={wanted}",
            ]
        )  # fmt: skip
        wanted.unlink()

    return kept("wheels", f"{package}-needs", key, make)


def built(package: str) -> Path:
    """Return a folder with the wheel of one package of ours."""
    folder = ROOT / _MEMBERS[package]
    sources = [folder / "pyproject.toml", *_files(folder / "src")]
    if package == "sluice-proxy":
        sources += [ROOT / "Cargo.toml", ROOT / "Cargo.lock", *_files(folder / "native")]
    key = digest_of(sources)

    def make(target: Path) -> None:
        say(f"images: building the wheel of {package} …")
        # With our own Maturin the interpreter's path stays the same, so that Cargo rebuilds only what changed.
        more = ["--no-build-isolation"] if package == "sluice-proxy" else []
        options = [f"--package={package}", f"--out-dir={target}", "--python", sys.executable]
        _uv(["build", "--wheel", *options, *more])
        for other in target.iterdir():
            if other.suffix != ".whl":
                other.unlink()

    return kept("wheels", package, key, make)


def members(package: str) -> list[str]:
    """Return the packages of ours that a package is made of, itself included."""
    return {
        "sluice-proxy": ["sluice-crds", "sluice-proxy"],
        "sluice-operator": ["sluice-crds", "sluice-policy", "sluice-operator"],
    }[package]


def kept(kind: str, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder kept for a key below the cache, made first when it is not there.

    Args:
        kind: Folder below the cache.
        name: What it is; the hash follows it in the folder's name.
        key: Hash of what decides the content.
        make: Fills an empty folder.
    """
    target = cache() / kind / f"{name}-{key}"
    if target.exists():
        os.utime(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        make(fresh)
        fresh.chmod(0o755)
        fresh.replace(target)
    except OSError:
        if not target.exists():  # Somebody else made the same meanwhile.
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    others = [one for one in target.parent.glob(f"{name}-{'[0-9a-f]' * 16}") if one != target]
    for old in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def digest_of(paths: Iterable[Path]) -> str:
    """Return a hash of files by name and content."""
    parts: list[bytes] = []
    for path in sorted(paths):
        parts += [str(path.relative_to(ROOT)).encode(), path.read_bytes()]
    return digest(parts)


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [
        path
        for path in found
        if "__pycache__" not in path.parts and path.suffix not in {".so", ".pyc", ".new"}
    ]


def digest(parts: Iterable[bytes]) -> str:
    """Return a short hash of parts, each by its length too."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()[:16]


def _uv(arguments: Sequence[str]) -> str:
    program = shutil.which("uv") or next(map(str, sorted(cache().glob("uv-*/bin/uv"))), None)
    if program is None:
        raise ClusterError("uv is not there; run `make setup`")
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR") or str(cache() / "target"),
    }
    scripts = str(Path(sys.executable).parent)  # Maturin.
    environment["PATH"] = f"{scripts}:{environment.get('PATH', '')}"
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"uv {' '.join(arguments[:6])} …: {done.stderr.strip()[-3000:]}")
    return done.stdout
