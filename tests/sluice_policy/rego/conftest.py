"""A real OPA with the library of this tree, asked many questions in one evaluation."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REGO = Path(__file__).resolve().parents[3] / "policy" / "rego"
CONTRACT = REGO.parent / "contract"

# One request carries many (data, input) pairs, so that an example costs one round trip.
BATCH = """package batch

bundles := {"sluice": {"manifest": {"revision": "r1", "metadata": {"sequence": 7}}}}

answers := [answer |
    some case in input.cases
    answer := {"session": session(case), "statement": statement(case)}
]

session(case) := answer if {
    answer := data.sluice.session.decision with input as case.input
        with data.sluice_data as case.data
        with data.system.bundles as bundles
}

statement(case) := answer if {
    answer := data.sluice.statement.decision with input as case.input
        with data.sluice_data as case.data
        with data.system.bundles as bundles
}
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class OpaServer:
    """One OPA process; `status` and `ask` speak to its API."""

    def __init__(self, program: Path, socket_path: Path, arguments: list[str]) -> None:
        self.socket_path = socket_path
        address = f"unix://{socket_path}"
        command = [str(program), "run", "--server", "--addr", address, "--log-level", "error"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_until_ready(self, path: str = "/health?bundles=false") -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                stderr = self.process.stderr
                pytest.fail(f"OPA ended: {stderr.read().decode() if stderr else ''}")
            try:
                if self.request("GET", path)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        pytest.fail("OPA did not become ready")

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = UnixConnection(self.socket_path)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ask(self, path: str, document: Any) -> Any:
        status, body = self.request("POST", path, json.dumps({"input": document}).encode())
        assert status == 200, body
        return json.loads(body)["result"]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        if self.process.stderr:
            self.process.stderr.close()


class Library:
    """The library in a running OPA: decisions for (data, input) pairs."""

    def __init__(self, server: OpaServer) -> None:
        self.server = server

    def decide(self, cases: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
        """Both decisions of each pair of `sluice_data` and input."""
        asked = {"cases": [{"data": data, "input": question} for data, question in cases]}
        return self.server.ask("/v1/data/batch/answers", asked)


@pytest.fixture(scope="session")
def library(opa: Path) -> Iterator[Library]:
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.rego"
        batch.write_text(BATCH)
        modules = [str(path) for path in library_modules()]
        server = OpaServer(opa, Path(folder) / "opa.sock", [str(batch), *modules])
        try:
            server.wait_until_ready()
            yield Library(server)
        finally:
            server.close()


def library_modules() -> list[Path]:
    found = (REGO / "sluice").glob("*.rego")
    return sorted(path for path in found if not path.name.endswith("_test.rego"))


@pytest.fixture(scope="session")
def modules() -> list[Path]:
    return library_modules()


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in CONTRACT.glob("*.schema.json")}


@pytest.fixture
def start_opa(opa: Path) -> Iterator[Any]:
    """A function that starts an OPA with these arguments and gives the server."""
    servers: list[OpaServer] = []
    with tempfile.TemporaryDirectory() as folder:

        def start(arguments: list[str]) -> OpaServer:
            server = OpaServer(opa, Path(folder) / f"{len(servers)}.sock", arguments)
            servers.append(server)
            return server

        yield start
        for server in servers:
            server.close()


class Opinion:
    """What the combination should be, said again in another language and as plainly as possible."""

    def __init__(self, data: Any, question: Any, *, masks: list[Any], noon_ns: int) -> None:
        """Take the documents, a question, all masks, the strictest first, and when an office is open."""
        self.masks, self.noon_ns = masks, noon_ns
        self.question = question
        self.statement = question["statement"]
        self.database = data["databases"]["o/db"]
        actor = question["identity"]["actor"]
        self.actor = actor if actor and actor["assurance"] == "verified" else None
        self.layers: dict[str, list[Any]] = {"workload": [], "actor": [], "doubt": []}
        for policy in data["policies"]:
            how = self.selects(policy)
            if how and policy["mode"] == "enforce":
                self.layers[how].append(policy)
        self.restricting = list(itertools.chain.from_iterable(self.layers.values()))

    def selects(self, policy: Any) -> str | None:
        found: set[str] = set()
        for entry in policy.get("subjects", [{}]):
            namespaces = entry.get("workload", {}).get("namespaces", ["a", "b"])
            if self.question["identity"]["workload"]["namespace"] not in namespaces:
                continue
            if "app" not in entry.get("role", {}).get("names", ["app"]):
                continue
            if "actor" not in entry:
                found.add("workload")
            elif self.actor is None:
                found.add("doubt")
            elif self.actor["kind"] in entry["actor"].get("kinds", ["human", "agent"]):
                found.add("actor")
        return next((how for how in ("workload", "actor", "doubt") if how in found), None)

    def in_force(self, rule: Any) -> bool:
        clock = self.question["clock"]
        if "when" not in rule:
            return True
        if not clock["trusted"]:
            return rule["effect"] == "deny"
        return clock["now_ns"] == self.noon_ns

    def allowed(self) -> bool:
        if not self.database["allowed"]:
            return False
        rights = {how: self.rights(how) for how in ("workload", "actor")}
        if not rights["workload"]:
            return False
        if any(self.denies(policy) for policy in self.restricting) or self.oracle_denies():
            return False
        return all(self.covered(found) for found in rights.values() if found)

    def rights(self, how: str) -> list[Any]:
        return [r for p in self.layers[how] for r in p["rules"] if r["effect"] == "allow"]

    def denies(self, policy: Any) -> bool:
        actions = self.statement["actions"]
        guardrails = policy["guardrails"]
        if "drop" in guardrails and "ddl.drop" in actions:
            return True
        if "unfiltered_writes" in guardrails and self.statement["unfiltered_write"]:
            return True
        found = [r for r in policy["rules"] if r["effect"] == "deny" and self.in_force(r)]
        return any(self.speaks_of(rule) for rule in found)

    def speaks_of(self, rule: Any) -> bool:
        uses = [(table, self.actions_for(table)) for table in self.statement["tables"]]
        if "tables" not in rule and "classes" not in rule:
            everything = {*self.statement["actions"], *itertools.chain(*(a for _, a in uses))}
            return any(names_action(rule, action) for action in everything)
        wide = {"call", "session"} & set(self.statement["actions"])
        return any(
            names_table(rule, table["name"])
            and any(names_action(rule, action) for action in {*actions, *wide})
            and (
                "classes" not in rule
                or any(c["class"] and covers(rule["classes"], c["class"]) for c in table["columns"])
            )
            for table, actions in uses
        )

    def actions_for(self, table: Any) -> set[str]:
        actions = set(self.statement["actions"])
        writing = actions & {"insert", "update", "ddl.drop"} or actions
        needed: set[str] = actions & {"explain"}
        if table["access"] == "read":
            needed |= {"select"}
        else:
            needed |= writing
            if table["access"] == "readwrite":
                needed |= actions & {"select"}
        return needed

    def covered(self, rights: list[Any]) -> bool:
        rights = [rule for rule in rights if self.in_force(rule)]
        stated: set[str] = set()
        for table in self.statement["tables"]:
            for action in self.actions_for(table):
                stated.add(action)
                fitting = [
                    r for r in rights if names_action(r, action) and names_table(r, table["name"])
                ]
                if not fitting:
                    return False
                for class_ in set(table["classes"]) - {"unreviewed"}:
                    if not any(covers(r.get("classes", ["*"]), class_) for r in fitting):
                        return False
        wide = set(self.statement["actions"]) - {"select", "explain", "session"} - stated
        for action in wide:
            if not any(
                names_action(r, action) and ("tables" not in r or "*.*" in r["tables"])
                for r in rights
            ):
                return False
        return bool(rights)

    def oracle_denies(self) -> bool:
        fields = {"keys": "keys", "rowValues": "row_values"}
        asked = {fields[name] for name in self.statement["write_oracles"]}
        return any(self.oracle(field) == "deny" for field in asked)

    def oracle(self, field: str) -> str:
        said = {p["write_oracles"].get(field) for p in self.restricting}
        if "deny" in said:
            return "deny"
        givers = [
            p for p in self.layers["workload"] if any(r["effect"] == "allow" for r in p["rules"])
        ]
        if any(p["write_oracles"].get(field) == "accept" for p in givers):
            return "accept"
        return {"keys": "accept", "row_values": "deny"}[field]

    def mask(self, class_: str) -> Any:
        said: list[Any] = []
        for policy in self.restricting:
            entries = [e for e in policy["masks"] if covers([e["class"]], class_)]
            entries.sort(key=lambda e: -1 if e["class"] == "*" else len(e["class"]), reverse=True)
            best = [e["mask"] for e in entries if e["class"] == entries[0]["class"]]
            if best:
                said.append(min(best, key=self.masks.index))
            elif policy not in self.layers["doubt"] and self.admits([policy], class_):
                said.append({"kind": "redact"})
        if not self.readable(class_):
            said.append({"kind": "redact"})
        return min(said, key=self.masks.index)

    def admits(self, policy_set: list[Any], class_: str) -> bool:
        found = [r for p in policy_set for r in p["rules"] if r["effect"] == "allow"]
        return any(class_ == "unreviewed" or covers(r.get("classes", ["*"]), class_) for r in found)

    def readable(self, class_: str) -> bool:
        layers = [self.layers["workload"]]
        if self.rights("actor"):
            layers.append(self.layers["actor"])
        barred = any(
            r["effect"] == "deny"
            and not {"tables", "actions", "when"} & set(r)
            and covers(r.get("classes", []), class_)
            for p in self.restricting
            for r in p["rules"]
        )
        return not barred and all(self.admits(layer, class_) for layer in layers)


def covers(names: list[str], class_: str) -> bool:
    return any(n in {"*", class_} or class_.startswith(f"{n}.") for n in names)


def names_action(rule: Any, action: str) -> bool:
    listed = rule.get("actions", [action])
    return action in listed or (action.startswith("ddl.") and "ddl.*" in listed)


def names_table(rule: Any, name: str) -> bool:
    matched = {
        "*.*": True,
        "public.*": name.startswith("public."),
        "public.users": name == "public.users",
        "*.log": name.endswith(".log"),
        "audit.l*": name.startswith("audit.l"),
    }
    return any(matched[pattern] for pattern in rule.get("tables", ["*.*"]))


@pytest.fixture(scope="session")
def second_opinion() -> type[Opinion]:
    return Opinion
