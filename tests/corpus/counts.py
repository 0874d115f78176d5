"""The counts of a run, and how they are judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A count of ``total``: of bad ones for attacks and wire cases, of good ones for benign statements and clients."""

    count: int
    total: int


@dataclass(frozen=True)
class Counts:
    """All four."""

    sql: Part
    wire: Part
    benign: Part
    clients: Part

    def line(self) -> str:
        """Return the line that a run ends with."""
        return (
            f"corpus: sql leaks {self.sql.count}/{self.sql.total}, "
            f"wire failures {self.wire.count}/{self.wire.total}, "
            f"benign {self.benign.count}/{self.benign.total}, "
            f"clients {self.clients.count}/{self.clients.total}"
        )

    def judge(self, ratchet: Path | None, *, update: bool) -> bool:
        """Return whether the run is good: perfect without a ratchet, no worse than the ratchet with one."""
        if ratchet is None:
            return (
                self.sql.count == self.wire.count == 0
                and self.benign.count == self.benign.total
                and self.clients.count == self.clients.total
            )
        bound: dict[str, int] = json.loads(ratchet.read_text()) if ratchet.exists() else {}
        now = {
            "wire failures": self.wire.count,
            "benign broken": self.benign.total - self.benign.count,
            "clients broken": self.clients.total - self.clients.count,
        }
        worse = {name for name, count in now.items() if count > bound.get(name, count)}
        better = {name for name, count in now.items() if count < bound.get(name, count + 1)}
        for name in sorted(worse):
            print(
                f"corpus: worse than the ratchet: {name} {now[name]}, at most {bound[name]} allowed"
            )
        if update:
            kept = {name: min(count, bound.get(name, count)) for name, count in now.items()}
            ratchet.write_text(json.dumps(kept, indent=2) + "\n")
        elif better:
            print(
                "corpus: better than the ratchet ("
                + ", ".join(
                    f"{name} {now[name]} < {bound.get(name, 'none')}" for name in sorted(better)
                )
                + "); run `make corpus-ratchet` and commit it"
            )
        return not worse and self.sql.count == 0
