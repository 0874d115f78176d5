"""One role that one policy restricts, on a server of its own with Sluice before it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice_dev.postgres import Server, find
from sluice_dev.stack import Sluice


@dataclass(frozen=True, kw_only=True)
class Restriction:
    """What the role may do, and what is hidden from it."""

    name: str
    """Of the database, and of the namespace that its policies are in."""
    role: str
    columns: Sequence[Mapping[str, str]]
    """Entries of the classification."""
    masks: Sequence[Mapping[str, Any]]
    """Entries of the policy."""
    actions: Sequence[str]
    """On every table."""
    unreviewed: str
    """What becomes of columns that no entry names: ``allow`` or ``mask``."""
    filters: Sequence[Mapping[str, Any]] = ()
    """Row filters of the policy."""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Other parts of the policy, ``writeOracles`` and ``guardrails`` for two."""

    def resources(self) -> dict[str, dict[str, Any]]:
        """Return the classification and the policy, by the names of their files."""
        name = self.name

        def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
            return {
                "apiVersion": "sluice.dev/v1alpha1",
                "kind": kind,
                "metadata": {"name": name, "namespace": name},
                "spec": spec,
            }

        classification = {
            "database": {"hosts": [f"{name}-pg.{name}.svc"], "port": 5432, "name": name},
            "enforcement": "enforce",
            "unreviewedColumns": self.unreviewed,
            "columns": list(self.columns),
        }
        policy = {
            "mode": "enforce",
            "databases": {"names": [name]},
            "subjects": [{"role": {"names": [self.role]}}],
            "rules": [{"name": "all", "effect": "allow", "actions": list(self.actions)}],
            "masks": list(self.masks),
            **({"rowFilters": list(self.filters)} if self.filters else {}),
            **self.more,
        }
        return {
            "classification.yaml": resource("DataClassification", classification),
            "policy.yaml": resource("DatabaseAccessPolicy", policy),
        }

    @contextlib.contextmanager
    def running(self, schema: str, *, major: int | None = None) -> Generator[tuple[Server, Sluice]]:
        """Run a server whose database is made by ``schema`` (SQL), which makes the role too, and Sluice before it.

        The role needs no password. Without ``major`` the server is the installed one.
        """
        with contextlib.ExitStack() as stack:
            policies = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-policies-"))
            )
            for file, document in self.resources().items():
                (policies / file).write_text(json.dumps(document))
            hba = [f"host all {self.role} 127.0.0.1/32 trust"]
            server = stack.enter_context(Server(find(contrib=True, major=major), hba=hba))
            server.create_database(self.name, schema)
            sluice = Sluice(server, dbname=self.name, policies=policies, namespace=self.name)
            yield server, stack.enter_context(sluice)
