"""Classifications as pods meet them: which address, which names, which entry."""

import pytest

from sluice_operator.admission.hostnames import absolute, spellings


def listens(estate, namespace="shop"):
    return {e["name"]: e["listen"] for e in estate.entries(namespace)}


def names_at(estate, address, namespace="elsewhere"):
    found = [a["hostnames"] for a in estate.aliases(namespace) if a["ip"] == address]
    return found[0] if found else []


def test_databases_of_one_server_share_an_address(estate_of, classification):
    estate = estate_of(
        classification("shop", "shop", ["pg"]),
        classification("crm", "crm", ["pg.shop.svc.cluster.local", "pg-ro.shop"]),
    )
    assert listens(estate) == {"crm/crm": "127.0.0.32:5432", "shop/shop": "127.0.0.32:5432"}
    assert names_at(estate, "127.0.0.32") == [
        "pg-ro.shop",
        "pg.shop",
        "pg.shop.svc",
        "pg.shop.svc.cluster.local",
    ] or "pg-ro.shop.svc" in names_at(estate, "127.0.0.32")


def test_one_host_with_two_ports_has_one_address(estate_of, classification):
    """A name in a hosts file leads to one address only."""
    estate = estate_of(
        classification("a", "shop", ["pg"], database={"port": 5432}),
        classification("b", "shop", ["pg"], database={"port": 5433}),
    )
    assert listens(estate) == {"shop/a": "127.0.0.32:5432", "shop/b": "127.0.0.32:5433"}


def test_addresses_follow_canonical_names_whatever_the_order(estate_of, classification):
    both = [classification("z", "z", ["b-pg"]), classification("a", "a", ["z-pg"])]
    first, second = estate_of(*both), estate_of(*reversed(both))
    assert listens(first) == listens(second)
    assert listens(first) == {"z/z": "127.0.0.32:5432", "a/a": "127.0.0.33:5432"}


def test_second_claim_stands_alone_and_takes_no_name(estate_of, classification):
    """The younger claimant of a database is denied by the policy; the elder keeps every name."""
    old = classification("shop", "shop", ["pg"], created="2026-01-01T00:00:00Z")
    thief = classification(
        "mine",
        "evil",
        ["pg.shop", "other"],
        database={"name": "shop"},
        created="2026-02-01T00:00:00Z",
    )
    estate = estate_of(thief, old)
    entries = listens(estate)
    assert entries["evil/mine"] != entries["shop/shop"]
    assert "pg.shop" in names_at(estate, entries["shop/shop"].split(":")[0])
    assert names_at(estate, entries["evil/mine"].split(":")[0]) == [
        "other.evil",
        "other.evil.svc",
        "other.evil.svc.cluster.local",
    ]


def test_bridge_between_two_servers_never_mixes_databases_of_one_name(estate_of, classification):
    estate = estate_of(
        classification("one", "x", ["pg-1"], database={"name": "app"}),
        classification("two", "y", ["pg-2"], database={"name": "app"}),
        classification("zz", "z", ["pg-1.x", "pg-2.y"], created="2026-05-01T00:00:00Z"),
    )
    entries = estate.entries("z")
    seen = [(entry["listen"], entry["database"]) for entry in entries]
    assert len(set(seen)) == len(seen)


def test_address_as_host_maps_no_name(estate_of, classification):
    estate = estate_of(classification("ext", "shop", ["10.1.2.3", "::1"]))
    assert estate.aliases("shop") == []
    assert estate.entries("shop")[0]["upstream"] == ["10.1.2.3", 5432]


@pytest.mark.parametrize(
    ("host", "full", "also"),
    [
        ("pg", "pg.shop.svc.cluster.local", "pg.shop"),
        ("PG.shop", "pg.shop.svc.cluster.local", "pg.shop.svc"),
        ("pg.other.svc", "pg.other.svc.cluster.local", "pg.other"),
        ("pg.other.svc.cluster.local.", "pg.other.svc.cluster.local", "pg.other.svc"),
        ("pg-0.pg.shop.svc", "pg-0.pg.shop.svc.cluster.local", "pg-0.pg.shop"),
        ("db.example.com", "db.example.com", "db.example.com"),
        ("example.com", "example.com", "example.com"),
    ],
)
def test_hosts_have_one_absolute_name_and_all_short_ones(host, full, also):
    assert absolute(host, "shop", "cluster.local") == full
    assert {full, also} <= spellings(host, "shop", "cluster.local")


def test_api_server_is_led_nowhere_even_if_somebody_classified_it(estate_of, classification):
    estate = estate_of(classification("k", "default", ["kubernetes", "pg"]))
    assert not [name for name in names_at(estate, "127.0.0.32", "default") if "kubernetes" in name]


def test_another_cluster_domain_is_followed():
    assert absolute("pg", "shop", "k8s.corp") == "pg.shop.svc.k8s.corp"
    assert spellings("pg.shop.svc.k8s.corp", "a", "k8s.corp") == {
        "pg.shop",
        "pg.shop.svc",
        "pg.shop.svc.k8s.corp",
    }
