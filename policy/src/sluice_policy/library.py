"""The Rego library: the modules that go into every bundle.

In a checkout they are ``policy/rego``; a wheel carries them inside the package
(``force-include`` in ``policy/pyproject.toml``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve()


def _folder() -> Path:
    inside = _HERE.parent / "rego"
    return inside if inside.is_dir() else _HERE.parents[2] / "rego"


PACKAGES = ("package sluice.", "package sluice\n")
"""The bundle's roots are ``sluice`` and ``sluice_data``: other packages (OPA's own authorization) stay out."""


def _belongs(path: Path, text: str) -> bool:
    if path.name.endswith("_test.rego"):
        return False
    return any(line.startswith(PACKAGES) for line in text.splitlines(keepends=True))


@cache
def library() -> Mapping[str, bytes]:
    """Path in the bundle → text of each module, without tests.

    Raises:
        RuntimeError: The package was built without the library.
    """
    modules: dict[str, bytes] = {}
    folder = _folder()
    for path in sorted(folder.rglob("*.rego")):
        data = path.read_bytes()
        if _belongs(path, data.decode()):
            modules[path.relative_to(folder).as_posix()] = data
    if not modules:
        raise RuntimeError(f"no Rego library in {folder}: the installation is broken")
    return modules


@cache
def authorization() -> str:
    """Return the policy that guards OPA's own API, which never is in a bundle; without its comments."""
    text = (_folder() / "authz" / "system_authz.rego").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return "\n".join(lines) + "\n"
