"""Settings of the process and what it reads of reviews and trust."""

import json

import pytest

from sluice_operator.admission.knowledge import read_trust
from sluice_operator.admission.model import PROXY_RESOURCES
from sluice_operator.admission.reviews import Answer, ReviewError, read_review
from sluice_operator.admission.settings import read_settings
from sluice_operator.settings import Environment, SettingsError

NEEDED = {
    "SLUICE_NAMESPACE": "sluice-system",
    "SLUICE_POD_NAME": "a-0",
    "SLUICE_PROXY_IMAGE": "proxy",
    "SLUICE_OPA_IMAGE": "opa",
}


def test_defaults_name_the_bundle_service_of_the_own_namespace():
    environment = Environment(NEEDED)
    settings = read_settings(environment)
    environment.finish()
    assert settings.injection.bundles_url == "https://sluice-bundles.sluice-system.svc"
    assert settings.injection.proxy == PROXY_RESOURCES
    assert settings.listen == (None, 8443)


def test_resources_of_the_chart_are_read():
    value = {
        "proxy": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "opa": {"requests": {}},
    }
    settings = read_settings(Environment({**NEEDED, "SLUICE_SIDECAR_RESOURCES": json.dumps(value)}))
    assert (settings.injection.proxy.cpu, settings.injection.proxy.memory_limit) == ("1", "1Gi")
    assert settings.injection.proxy.memory is None


@pytest.mark.parametrize(
    "value", ["{", "[]", '{"prox": {}}', '{"proxy": {"requests": {"cpu": "much"}}}', '{"opa": 1}']
)
def test_wrong_resources_are_refused_at_start(value):
    with pytest.raises(SettingsError, match="SLUICE_SIDECAR_RESOURCES"):
        read_settings(Environment({**NEEDED, "SLUICE_SIDECAR_RESOURCES": value}))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"apiVersion": "admission.k8s.io/v1beta1"}'])
def test_what_is_no_review_is_an_error(body):
    with pytest.raises(ReviewError):
        read_review(body)


def test_warnings_are_bounded_and_told_once():
    answer = Answer(True, warnings=("w" * 400, "w" * 400, *map(str, range(20))))
    warnings = answer.document("u")["response"]["warnings"]
    assert len(warnings) == 13
    assert all(len(one) <= 256 for one in warnings)
    assert warnings[-1] == "and 9 more warnings"


@pytest.mark.parametrize(
    "data",
    [{}, {"ca.pem": "CA"}, {"ca.pem": "CA", "keys.json": "{"}, {"ca.pem": "CA", "keys.json": "{}"}],
)
def test_trust_that_is_not_whole_is_none(data):
    assert read_trust(data) is None
