"""The admission process before a real API server: certificates, trust, rights, metrics."""

import http.client
import ssl
from typing import Any

from sluice_dev.cluster import ApiServerError


def test_certificate_is_taken_up_without_a_restart(api, admission):
    first = admission.pid
    count = admission.log.read_text().count("certificate in use")
    admission.certificate()
    admission.until(
        lambda: admission.log.read_text().count("certificate in use") > count, "new certificate"
    )
    assert api.accepted(api.governed("renewed", "shop"))
    assert admission.pid == first


def test_new_trust_is_in_the_next_pod(api, admission):
    api.apply([api.trust("CA TWO")])

    def current() -> bool:
        text = api.create(api.governed("trusting", "shop"), "--dry-run=server", "-o", "json")
        return "CA TWO" in text

    admission.until(current, "new trust")


def test_process_may_read_what_it_must_and_nothing_else(api):
    kubeconfig = api.server.service_account_kubeconfig(api.SYSTEM, "sluice-admission")

    def may(*what: str) -> bool:
        try:
            api.kubectl("auth", "can-i", *what, kubeconfig=kubeconfig)
        except ApiServerError:
            return False
        return True

    assert may("get", "secrets/sluice-admission-tls", "-n", api.SYSTEM)
    assert not may("get", "secrets/sluice-signing", "-n", api.SYSTEM)
    assert not may("list", "secrets", "-A")
    assert not may("create", "configmaps", "-n", api.SYSTEM)
    assert not may("get", "pods", "-A")


def posted(admission: Any, path: str, body: bytes) -> int:
    context = ssl.create_default_context(cadata=admission.authority.pem.decode())
    connection = http.client.HTTPSConnection("127.0.0.1", admission.port, context=context)
    try:
        connection.request("POST", path, body)
        return connection.getresponse().status
    except (ConnectionError, ssl.SSLError):
        return 413  # It hung up before it had read all of it.
    finally:
        connection.close()


def test_what_no_api_server_sends_is_turned_away(admission):
    assert posted(admission, "/mutate/pods", b"{}") == 400
    assert posted(admission, "/mutate/pods", b"[" * 100_000) == 400
    assert posted(admission, "/validate/resources", b" " * (9 << 20)) == 413
    assert posted(admission, "/elsewhere", b"{}") == 404


def test_metrics_count_reviews_and_their_time(api, admission):
    assert api.refused(api.governed("counted", "shop", hostPID=True))
    assert api.accepted(api.governed("counted", "shop"))
    status, text = admission.get("/metrics")
    assert status == 200
    assert 'sluice_admission_reviews_total{answer="refused",webhook="mutate-pods"}' in text
    assert 'sluice_admission_seconds_count{webhook="validate-pods"}' in text
