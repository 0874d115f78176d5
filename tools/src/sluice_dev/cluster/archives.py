"""docker-archive tars, as ``docker save`` writes them: the form in which images are kept and loaded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any


def single_file_image(target: Path, name: str, program: Path, *, user: str = "65535:65535") -> Path:
    """Write the archive of an image that holds one static program and runs it as ``user``; return its path."""
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    configuration = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
            os.uname().machine, os.uname().machine
        ),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": user},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": f"COPY {program.name} /"}],
    }
    text = json.dumps(configuration).encode()
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        config_name: (text, 0o644),
        "layer.tar": (layer, 0o644),
        "manifest.json": (json.dumps(manifest).encode(), 0o644),
    }
    target.write_bytes(_tar(files))
    return target


def contents(archive: Path) -> dict[str, str]:
    """Return the names of the images in an archive, each with what tells its content."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        if manifest is None:
            return {}
        entries: list[dict[str, Any]] = json.load(manifest)
    # The configuration is named by its hash, and names the hashes of all layers.
    found: dict[str, str] = {}
    for entry in entries:
        names: list[str] = entry.get("RepoTags") or []
        found |= dict.fromkeys(names, str(entry["Config"]))
    return found


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    # The same bytes each time: owner, mode and times are fixed.
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
