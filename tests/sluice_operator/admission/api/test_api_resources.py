"""Both resources before the webhooks of a real API server."""

import json


def test_wrong_policy_is_refused_with_the_path(api):
    policy = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DatabaseAccessPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"rowFilters": [{"table": "public.orders", "where": "1=1) OR ("}]},
    }
    message = api.refused(policy)
    assert 'admission webhook "resources.sluice.dev" denied the request' in message
    assert "spec.rowFilters[0].where: not an SQL expression" in message


def test_second_claim_is_refused_and_names_the_owner(api):
    thief_of_shop = api.classification("mine", "outside", ["shop-pg.shop.svc"])
    message = api.refused(thief_of_shop)
    assert "belongs to DataClassification shop/shop" in message


def test_host_of_another_namespace_needs_the_label(api):
    message = api.refused(api.classification("mine", "evil", ["other-pg.billing.svc"]))
    assert "is no Service of the namespace evil" in message
    assert api.accepted(api.classification("mine", "outside", ["other-pg.billing.svc"]))


def test_warnings_reach_whoever_applies(api):
    told = api.warnings(api.classification("open", "billing", ["pg"]))
    assert "Warning: spec.database.catalogSecretRef is not set" in told


def test_status_and_deletion_are_never_blocked(api, admission):
    api.create(api.classification("gone", "billing", ["gone-pg"]))
    api.create(api.governed("kept"))
    admission.stop()
    try:
        api.kubectl(
            *("patch", "dcl", "gone", "-n", "billing", "--subresource=status", "--type=merge"),
            *("-p", json.dumps({"status": {"observedGeneration": 1}})),
        )
        api.kubectl("label", "dcl", "gone", "-n", "billing", "env=test")
        assert "failed calling webhook" in api.refused(api.governed("away", "shop"))
        assert api.patched("kept", {"metadata": {"finalizers": None}}) == ""
        api.kubectl("delete", "dcl", "gone", "-n", "billing")
    finally:
        admission.start()
        admission.until(lambda: admission.ready, "ready again")
    admission.until(lambda: api.accepted(api.governed("back", "shop")), "pods again")
