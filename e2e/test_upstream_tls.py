"""TLS to the server and to clients: what the classification asks for holds, nothing goes on in the clear instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluice_dev.cluster.pki import Authority, Pair
from sluice_dev.kubectl import DeniedError, Kubectl, PodClient, until
from sluice_dev.story import MASKED, SHOP, Database, Document, Story, container, documents, unmasked

SERVER = "secure-pg"
HOST = f"{SERVER}.{SHOP}.svc"
ALIAS = f"{SERVER}-alias.{SHOP}.svc"
"""Of the same server; its certificate does not have this name."""
FACE = f"{SERVER}-face.{SHOP}.svc"
"""Of the same server; here the sidecar has a certificate for clients."""
MUTUAL, STRANGER, ABSENT, RENAMED, FACED = "mutual", "stranger", "absent", "renamed", "faced"
"""Databases of the server: with client certificates; of another authority; without its Secret; the other two names."""
AUTHORITY, OTHER, DESK, FRONT = "secure-ca", "other-ca", "desk-certificate", "front-certificate"

ACCESS = f"""
hostssl {MUTUAL} sluice_catalog all scram-sha-256
hostssl {MUTUAL} all all scram-sha-256 clientcert=verify-ca
hostssl all all all scram-sha-256
"""
OPTIONS = (
    "-c ssl=on -c ssl_cert_file=/etc/shop/tls/tls.crt -c ssl_key_file=/etc/shop/tls/tls.key"
    " -c ssl_ca_file=/etc/shop/tls/ca.crt -c log_connections=on"
)


def secret(kind: str, name: str, namespace: str, **values: str) -> Document:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "stringData": values}  # fmt: skip


def certificate(name: str, namespace: str, pair: Pair, authority: Authority) -> Document:
    return secret(
        "kubernetes.io/tls",
        name,
        namespace,
        **{
            "tls.crt": pair.certificate.read_text(),
            "tls.key": pair.key.read_text(),
            "ca.crt": authority.files.certificate.read_text(),
        },
    )


@dataclass
class Secure:
    """A PostgreSQL server that takes sessions with TLS only."""

    kubectl: Kubectl

    def psql(self, sql: str, dbname: str = "postgres") -> list[list[str]]:
        out = self.kubectl(
            "-n", SHOP, "exec", "-i", f"deploy/{SERVER}", "--", "/bin/sh", "-c",
            f"$(ls -d /usr/lib/postgresql/*/bin | tail -1)/psql -h /tmp -U postgres {dbname} -qXAt -v ON_ERROR_STOP=1",
            stdin=sql,
        )  # fmt: skip
        return [line.split("|") for line in out.splitlines()]

    def log(self) -> list[str]:
        return self.kubectl("-n", SHOP, "logs", f"deploy/{SERVER}", "--tail=-1").splitlines()


def deployed(server: Database, pair: Pair, authority: Authority) -> list[Document]:
    """The example's server under another name, with TLS."""
    text = json.dumps(documents("database.yaml", {"shop": SHOP}, server.images))
    found: list[Document] = json.loads(text.replace("shop-pg", SERVER))
    for document in found:
        if document["kind"] == "ConfigMap":
            start = document["data"]["start.sh"]
            plain, options = '"host all all all scram-sha-256"', "-c log_statement=all"
            assert plain in start
            assert options in start
            document["data"]["start.sh"] = start.replace(plain, f'"{ACCESS}"').replace(
                options, f"{options} {OPTIONS}"
            )
        if document["kind"] == "Deployment":
            spec = document["spec"]["template"]["spec"]
            mount = {"name": "tls", "mountPath": "/etc/shop/tls"}
            spec["containers"][0]["volumeMounts"].append(mount)
            # PostgreSQL takes a key of root's that its group alone may read.
            files = {"secretName": f"{SERVER}-tls", "defaultMode": 0o440}
            spec["volumes"].append({"name": "tls", "secret": files})
    service = {"selector": {"app": SERVER}, "ports": [{"port": 5432}]}
    more = [{"name": host.partition(".")[0], "namespace": SHOP} for host in (ALIAS, FACE)]
    return [
        certificate(f"{SERVER}-tls", SHOP, pair, authority),
        *found,
        *(
            {"apiVersion": "v1", "kind": "Service", "metadata": one, "spec": service}
            for one in more
        ),
    ]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.at(tmp_path_factory.mktemp("pki"), "authority")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def secure(
    kubectl: Kubectl, server: Database, authority: Authority, folder: Path
) -> Generator[Secure]:
    pair = authority.issue(folder, "server", name=SERVER, addresses=[HOST, FACE])
    found = deployed(server, pair, authority)
    kubectl.apply(*found)
    kubectl.rollout(SHOP, f"deployment/{SERVER}")
    one = Secure(kubectl)
    for name in (MUTUAL, STRANGER, ABSENT, RENAMED, FACED):
        one.psql(f"CREATE DATABASE {name} TEMPLATE shop")
    yield one
    for document in found:
        name = document["metadata"]["name"]
        kubectl.run(
            "-n", SHOP, "delete", document["kind"], name, "--wait=false", "--ignore-not-found"
        )


def verified(database: str, **more: object) -> Document:
    """What the classifications of the server say of it."""
    tls = {"mode": "verify-full", "caSecretRef": {"name": AUTHORITY, "key": "ca.crt"}, **more}
    return {"hosts": [HOST], "name": database, "tls": tls, "catalogSecretRef": {"name": "secure-catalog"}}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(blank: Story, authority: Authority, folder: Path) -> Story:
    """The story with every Secret that its classifications name, but one."""
    other = Authority.at(folder, "other")
    front = authority.issue(folder, "front", name="front", addresses=[f"shop-pg.{SHOP}.svc", FACE])
    desk = authority.issue(folder, "desk", name="desk")
    ca = authority.files.certificate.read_text()
    login = {"user": "sluice_catalog", "password": "catalog-pw", "host": HOST, "port": "5432"}
    home = blank.namespace
    blank.open()
    blank.kubectl.apply(
        secret("Opaque", AUTHORITY, home, **{"ca.crt": ca}),
        secret("Opaque", OTHER, home, **{"ca.crt": other.files.certificate.read_text()}),
        secret("sluice.dev/catalog", "secure-catalog", home, **{**login, "ca.crt": ca}),
        certificate(DESK, home, desk, authority),
        certificate(FRONT, home, front, authority),
    )
    return blank


@pytest.fixture(scope="module")
def classified(prepared: Story, secure: Secure) -> Story:
    """Everything is classified; before the plain server of all stories, clients may ask for TLS."""
    assert secure.psql("SHOW ssl") == [["on"]]
    plain = prepared.classification()
    plain["spec"]["database"] |= {
        "tls": {"mode": "disable"},
        "clientTLSSecretRef": {"name": FRONT},
    }
    databases = {
        "verified": verified("shop"),
        MUTUAL: verified(MUTUAL, clientCertSecretRef={"name": DESK}),
        STRANGER: verified(STRANGER, caSecretRef={"name": OTHER, "key": "ca.crt"}),
        ABSENT: verified(ABSENT, caSecretRef={"name": "absent-ca", "key": "ca.crt"}),
        RENAMED: {**verified(RENAMED), "hosts": [ALIAS]},
        FACED: {**verified(FACED), "hosts": [FACE], "clientTLSSecretRef": {"name": FRONT}},
    }
    found = [plain] + [
        prepared.classification(f"{prepared.name}-{kind}", database=database)
        for kind, database in databases.items()
    ]
    names = [document["metadata"]["name"] for document in found]
    policy = prepared.policy(f"{prepared.name}-secure", databases={"names": names[1:]})
    prepared.kubectl.apply(*found, policy)
    for name in names:
        prepared.ready("dcl", name)
    prepared.ready("dap", f"{prepared.name}-secure")
    return prepared


@pytest.fixture(scope="module")
def desk(classified: Story) -> PodClient:
    """A governed pod whose application trusts the authority that signed what its sidecar shows to it."""
    mount = {"name": "authority", "mountPath": "/etc/authority"}
    app = container(classified.images, volumeMounts=[mount])
    volume = {"name": "authority", "secret": {"secretName": AUTHORITY}}
    return classified.start(classified.pod("desk", containers=[app], volumes=[volume]))


@pytest.fixture
def refused(blank: Story, desk: PodClient) -> Callable[..., DeniedError]:
    def ask(database: str, host: str = HOST) -> DeniedError:
        with pytest.raises(DeniedError) as denied:
            desk.execute("SELECT 1", session=database, dsn=blank.dsn(database, host=host))
        return denied.value

    return ask


def hops(database: str) -> str:
    """Whether sessions of the desk are encrypted, as the server says."""
    return (
        "SELECT s.ssl, s.client_dn FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)"
        f" WHERE a.datname = '{database}' AND a.usename = 'support_ro'"
    )


def test_rows_are_masked_over_a_verified_hop(blank: Story, desk: PodClient, secure: Secure):
    rows = desk.execute(MASKED, session="verified", dsn=blank.dsn("shop", host=HOST))
    assert not unmasked(rows, secure.psql(MASKED, "shop"))
    assert secure.psql(hops("shop")) == [["t", ""]]


def test_sidecar_shows_its_certificate_to_the_server(blank: Story, desk: PodClient, secure: Secure):
    rows = desk.execute(MASKED, session=MUTUAL, dsn=blank.dsn(MUTUAL, host=HOST))
    assert not unmasked(rows, secure.psql(MASKED, "shop"))
    assert secure.psql(hops(MUTUAL)) == [["t", "/CN=desk"]]


def test_server_that_is_not_verified_gets_no_session_and_nothing_in_the_clear(
    refused: Callable[..., DeniedError], secure: Secure
):
    # From here on the server takes sessions in the clear as well: nobody may come by that way.
    secure.psql(
        "COPY (SELECT 'host all all all scram-sha-256') TO PROGRAM 'cat >> pg_hba.conf';"
        " SELECT pg_reload_conf()"
    )
    until(
        lambda: secure.psql(
            "SELECT 1 FROM pg_hba_file_rules WHERE type = 'host' AND address = 'all'"
        ),
        what="the server takes plain sessions",
    )
    stranger = refused(STRANGER)
    assert "certificate verify failed" in str(stranger), stranger
    assert f'in key ca.crt of the Secret "{OTHER}"' in str(stranger), stranger
    renamed = refused(RENAMED, ALIAS)
    assert "certificate verify failed" in str(renamed), renamed
    assert f"have one of the names {ALIAS}" in str(renamed).replace(".cluster.local", ""), renamed
    absent = refused(ABSENT)
    assert 'ca.crt of the Secret "absent-ca"' in str(absent), absent
    assert "no such Secret" in str(absent), absent
    authorized = [line for line in secure.log() if "authorized: user=support_ro" in line]
    assert authorized
    assert not [line for line in authorized if "SSL enabled" not in line]
    for database in (STRANGER, RENAMED, ABSENT):
        assert not [line for line in authorized if f"database={database} " in line]


WHOLE = {"sslmode": "verify-full", "sslrootcert": "/etc/authority/ca.crt"}
"""Of an application that insists on the name and the authority of what it connects to."""


def test_application_verifies_its_sidecar_before_a_plain_hop(
    blank: Story, desk: PodClient, server: Database
):
    rows = desk.execute(MASKED, session="front", dsn=blank.dsn(**WHOLE))
    assert not unmasked(rows, server.psql(MASKED, blank.name))
    assert server.psql(hops(blank.name)) == [["f", ""]]


def test_both_hops_are_verified_by_clients_that_leave_channel_binding_out(
    blank: Story, desk: PodClient, secure: Secure
):
    with pytest.raises(DeniedError) as denied:
        desk.execute("SELECT 1", session="bound", dsn=blank.dsn(FACED, host=FACE, **WHOLE))
    assert "add channel_binding=disable" in str(denied.value).lower(), denied.value
    dsn = blank.dsn(FACED, host=FACE, channel_binding="disable", **WHOLE)
    rows = desk.execute(MASKED, session=FACED, dsn=dsn)
    assert not unmasked(rows, secure.psql(MASKED, "shop"))
    assert secure.psql(hops(FACED)) == [["t", ""]]


def test_server_whose_sidecar_has_no_certificate_offers_none_to_clients(
    blank: Story, desk: PodClient
):
    with pytest.raises(DeniedError) as denied:
        desk.execute(
            "SELECT 1", session="none", dsn=blank.dsn("shop", host=HOST, sslmode="require")
        )
    assert "server does not support SSL, but SSL was required" in str(denied.value)
