"""What pods get of a database's TLS: the mode in force, the server's names, and Secrets where they are admitted."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import sluice_operator
from sluice_crds import DataClassification
from sluice_operator.admission.injection import inject
from sluice_operator.admission.model import Namespace, Refusal
from sluice_operator.admission.validation import judge_resource
from sluice_policy.resources import Resource, parse_resource

SCHEMA = json.loads(
    (Path(sluice_operator.__file__).parents[2] / "contract" / "databases.schema.json").read_text()
)
SUPPORT = Namespace("support")
CA = {"name": "shop-ca", "key": "ca.crt"}


@pytest.fixture
def shop(classification):
    """Makes the shop with fields of its ``spec.database``; it admits the namespace support."""

    def make(name: str = "shop", **database: Any) -> dict[str, Any]:
        return classification(
            name,
            "shop",
            [f"{name}-pg"],
            database={"catalogSecretRef": {"name": "reader"}, **database},
            allowedNamespaces=["support"],
        )

    return make


def entry_of(estate, namespace="support"):
    """The only entry, which the contract accepts."""
    entries = estate.entries(namespace)
    jsonschema.validate(entries, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert len(entries) == 1
    return entries[0]


@pytest.mark.parametrize(
    ("tls", "mode"),
    [
        (None, "prefer"),
        ({"mode": "disable"}, "disable"),
        ({"mode": "prefer"}, "prefer"),
        ({"mode": "require"}, "require"),
        ({"mode": "require", "caSecretRef": CA}, "verify-ca"),
        ({"mode": "verify-ca", "caSecretRef": CA}, "verify-ca"),
        ({"mode": "verify-full", "caSecretRef": CA}, "verify-full"),
    ],
)
def test_mode_is_the_one_in_force(estate_of, shop, tls, mode):
    """As libpq, ``require`` verifies when it has authorities, and then never goes on without."""
    entry = entry_of(estate_of(shop(**({"tls": tls} if tls else {}))))
    assert entry["tls"] == mode
    assert ("authorities" in entry) == (tls is not None and "caSecretRef" in tls)
    assert ("tlsNames" in entry) == (mode == "verify-full")


def test_whole_tls_has_a_folder_for_each_secret(estate_of, shop):
    entry = entry_of(
        estate_of(
            shop(
                tls={
                    "mode": "verify-full",
                    "caSecretRef": {"name": "shop-ca", "key": "root.pem"},
                    "clientCertSecretRef": {"name": "desk-cert"},
                },
                clientTLSSecretRef={"name": "sidecar-cert"},
            )
        )
    )
    assert entry["authorities"] == {"file": "/etc/sluice/tls/0/root.pem", "secret": "shop-ca"}
    assert entry["certificate"] == {"folder": "/etc/sluice/tls/1", "secret": "desk-cert"}
    assert entry["clientTls"] == {"folder": "/etc/sluice/tls/2", "secret": "sidecar-cert"}
    assert entry["catalog"] == "/etc/sluice/catalog/0"


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        (
            ["pg"],
            ["pg.shop.svc.cluster.local", "pg", "pg.shop", "pg.shop.svc"],
        ),
        (
            ["PG.shop.svc", "pg-ro.shop"],
            [
                *("pg.shop.svc.cluster.local", "pg.shop.svc", "pg.shop"),
                *("pg-ro.shop.svc.cluster.local", "pg-ro.shop", "pg-ro.shop.svc"),
            ],
        ),
        (["db.eu.example.com"], ["db.eu.example.com"]),
        (["10.1.2.3", "0:0::1:5"], ["10.1.2.3", "::1:5"]),
    ],
)
def test_certificate_may_have_each_name_of_each_host_and_no_other(
    estate_of, classification, hosts, names
):
    tls = {"mode": "verify-full", "caSecretRef": CA}
    entry = entry_of(estate_of(classification("shop", "shop", hosts, database={"tls": tls})))
    assert entry["tlsNames"] == names
    assert entry["upstream"][0] == names[0]


def test_single_label_is_a_name_only_where_it_is_written(estate_of, classification):
    tls = {"mode": "verify-full", "caSecretRef": CA}
    written = estate_of(classification("a", "shop", ["pg"], database={"tls": tls}))
    full = estate_of(classification("a", "shop", ["pg.shop.svc"], database={"tls": tls}))
    assert "pg" in entry_of(written)["tlsNames"]
    assert "pg" not in entry_of(full)["tlsNames"]


def test_names_follow_the_clusters_domain(estate_of, classification):
    tls = {"mode": "verify-full", "caSecretRef": CA}
    one = classification("shop", "shop", ["pg.shop.svc"], database={"tls": tls})
    entry = entry_of(estate_of(one, domain="k8s.corp"))
    assert entry["tlsNames"] == ["pg.shop.svc.k8s.corp", "pg.shop.svc", "pg.shop"]


def test_namespace_that_is_not_admitted_gets_no_secret_and_no_weaker_mode(estate_of, shop):
    estate = estate_of(
        shop(
            tls={"mode": "require", "caSecretRef": CA, "clientCertSecretRef": {"name": "c"}},
            clientTLSSecretRef={"name": "s"},
        )
    )
    entry = entry_of(estate, "strangers")
    assert entry["tls"] == "verify-ca"
    assert not entry.keys() & {"authorities", "certificate", "clientTls"}
    assert entry["catalog"] is entry["secret"] is None


def volumes_of(pod):
    return {
        v["name"]: v["secret"]
        for v in pod["spec"]["volumes"]
        if v["name"].startswith("sluice-tls-")
    }


def test_each_secret_is_mounted_once_into_the_proxy_alone(
    pod, estate_of, shop, settings, apply_patch
):
    verify = {"mode": "verify-full", "caSecretRef": CA}
    both = {"name": "shop-ca", "key": "other.crt"}
    estate = estate_of(
        shop("a", tls=verify, clientTLSSecretRef={"name": "front"}),
        shop("b", tls={**verify, "caSecretRef": both, "clientCertSecretRef": {"name": "desk"}}),
        shop("c", tls={"mode": "require"}, clientTLSSecretRef={"name": "front"}),
    )
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    assert volumes_of(after) == {
        f"sluice-tls-{n}": {"secretName": name, "optional": True, "defaultMode": 0o444}
        for n, name in enumerate(("shop-ca", "front", "desk"))
    }
    opa, proxy, *application = [*after["spec"]["initContainers"], *after["spec"]["containers"]]
    mounts = {m["name"]: m for m in proxy["volumeMounts"] if m["name"] in volumes_of(after)}
    assert {name: mount["mountPath"] for name, mount in mounts.items()} == {
        f"sluice-tls-{n}": f"/etc/sluice/tls/{n}" for n in range(3)
    }
    assert all(mount["readOnly"] for mount in mounts.values())
    for container in (opa, *application):
        assert not [m for m in container.get("volumeMounts", ()) if m["name"] in mounts]
    entries = {e["name"]: e for e in estate.entries("support")}
    assert entries["shop/b"]["authorities"]["file"] == "/etc/sluice/tls/0/other.crt"
    assert entries["shop/a"]["clientTls"] == entries["shop/c"]["clientTls"]


def test_pod_with_tls_is_recognized_and_derived_anew(pod, estate_of, shop, settings, apply_patch):
    estate = estate_of(shop(tls={"mode": "verify-full", "caSecretRef": CA}))
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    assert inject(after, SUPPORT, estate, settings).patch == ()
    plain = apply_patch(inject(after, SUPPORT, estate_of(shop()), settings).patch, after)
    assert not volumes_of(plain)


def test_pod_that_points_our_volume_at_another_secret_is_refused(
    pod, estate_of, shop, settings, apply_patch
):
    estate = estate_of(shop(tls={"mode": "verify-full", "caSecretRef": CA}))
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    volume = next(v for v in after["spec"]["volumes"] if v["name"] == "sluice-tls-0")
    volume["secret"]["secretName"] = "mine"
    result = inject(after, SUPPORT, estate, settings)
    assert isinstance(result, Refusal)
    assert "volume sluice-tls-0" in result.message


def test_what_the_secrets_add_counts_towards_the_size(estate_of, classification):
    """Named for pods that all databases admit: nobody's container may fail to start."""
    many = [
        classification(
            f"db-{n}",
            "shop",
            ["pg"],
            database={
                "tls": {"mode": "verify-full", "caSecretRef": {"name": "c" * 250, "key": "k" * 250}}
            },
        )
        for n in range(200)
    ]
    assert "more than the" in str(estate_of(*many).overflow())
    assert estate_of(*many[:100]).overflow() is None


# --- what is said to whoever writes a classification


def warnings_of(value):
    verdict = judge_resource(value, None, Namespace("shop"), [])
    assert verdict.errors == ()
    return [w for w in verdict.warnings if "tls" in w or "TLS" in w]


def test_required_tls_that_verifies_nothing_is_warned_of(shop):
    (told,) = warnings_of(shop(tls={"mode": "require"}))
    assert "verifies nothing" in told
    assert "verify-full" in told
    assert warnings_of(shop(tls={"mode": "require", "caSecretRef": CA})) == []


@pytest.mark.parametrize("mode", [None, "disable", "prefer"])
def test_what_promises_nothing_is_not_warned_of(shop, mode):
    assert warnings_of(shop(**({"tls": {"mode": mode}} if mode else {}))) == []


def test_tls_on_both_sides_is_warned_of_channel_binding(shop):
    verify = {"mode": "verify-full", "caSecretRef": CA}
    front = {"clientTLSSecretRef": {"name": "front"}}
    (told,) = warnings_of(shop(tls=verify, **front))
    assert "channel_binding=disable" in told
    assert warnings_of(shop(tls={"mode": "disable"}, **front)) == []


def test_second_certificate_for_clients_of_one_server_is_warned_of(classification):
    def one(name: str, secret: str, port: int = 5432) -> dict[str, Any]:
        tls = {"tls": {"mode": "disable"}, "clientTLSSecretRef": {"name": secret}, "port": port}
        return classification(name, "shop", ["pg"], database=tls)

    others = [
        Resource(model=model, namespace="shop")
        for value in (one("a", "front-a"), one("same", "front-b"), one("far", "front-c", 6432))
        if isinstance(model := parse_resource(value), DataClassification)
    ]
    verdict = judge_resource(one("b", "front-b"), None, Namespace("shop"), others)
    (told,) = [w for w in verdict.warnings if "clientTLSSecretRef" in w]
    assert "shop/a of the same server names front-a" in told
    assert "that of front-a where" in told


def test_observed_database_that_verifies_says_who_cannot_come(shop):
    value = shop(tls={"mode": "verify-full", "caSecretRef": CA})
    value["spec"]["enforcement"] = "observe"
    (told,) = warnings_of(value)
    assert "allowedNamespaces" in told


@pytest.mark.parametrize(
    ("tls", "field"),
    [
        ({"mode": "verify-full"}, "spec.database.tls.caSecretRef"),
        ({"mode": "prefer", "caSecretRef": CA}, "spec.database.tls.caSecretRef"),
        ({"mode": "disable", "clientCertSecretRef": {"name": "c"}}, "clientCertSecretRef"),
    ],
)
def test_contradiction_is_refused_with_the_path_of_the_field(shop, tls, field):
    verdict = judge_resource(shop(tls=tls), None, Namespace("shop"), [])
    assert len(verdict.errors) == 1
    assert field in verdict.errors[0]
