"""What an application can reach of its sidecar, and what it can change there: nothing."""

from __future__ import annotations

import json

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import MASKED, Story, raw, unmasked

# Every listener of the pod's network namespace, asked as the naive design could be attacked.
ATTACK = """
import json, socket, struct, urllib.request, urllib.error, ssl
listeners = set()
for path, family in (("/proc/net/tcp", 4), ("/proc/net/tcp6", 6)):
    for line in open(path).readlines()[1:]:
        fields = line.split()
        if fields[3] != "0A":
            continue
        address, port = fields[1].split(":")
        ip = socket.inet_ntoa(struct.pack("<I", int(address, 16))) if family == 4 else "::"
        listeners.add((ip, int(port, 16)))
own = socket.gethostbyname(socket.gethostname())
# Names in the network namespace are everybody's in the pod; sockets in a volume of ours are not.
abstract = [line.split()[-1] for line in open("/proc/net/unix") if " @" in line]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
tries = [
    ("PUT", "/v1/data/system/bundles/sluice/manifest/roots", "[]"),
    ("PUT", "/v1/data/sluice/policies", "{}"),
    ("PUT", "/v1/data/sluice_data", "{}"),
    ("PUT", "/v1/data/system/bundles/decoy/manifest/revision", '"decoy"'),
    ("PUT", "/v1/policies/evil", "package sluice.statement\\ndecision := {}"),
    ("PATCH", "/v1/data", "[]"),
    ("POST", "/v1/data/sluice/statement/decision", "{}"),
    ("GET", "/v1/data", None),
    ("GET", "/v1/policies", None),
    ("GET", "/v1/config", None),
    ("PUT", "/v1/bundle", ""),
    ("GET", "/v1/bundle", None),
    ("POST", "/v1/status", "{}"),
    ("POST", "/reload", ""),
]
done = []
for ip, port in sorted(listeners):
    for host in {ip, "127.0.0.1" if ip == "0.0.0.0" else ip, own}:
        if host in ("0.0.0.0", "::"):
            continue
        for scheme in ("http", "https"):
            for method, path, body in tries:
                url = f"{scheme}://{host}:{port}{path}"
                request = urllib.request.Request(url, body.encode() if body is not None else None, method=method)
                try:
                    with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                        done.append([method, url, answer.status, answer.read(2000).decode(errors="replace")])
                except urllib.error.HTTPError as error:
                    pass
                except Exception:
                    pass
print(json.dumps({"listeners": sorted(listeners), "abstract": abstract, "done": done}))
"""


def test_application_finds_no_way_to_opa_brain_or_bundles(story: Story):
    client = story.start(story.pod("desk"))
    truth = raw(story.server)
    assert not unmasked(client.execute(MASKED), truth)
    out = story.kubectl(
        "-n",
        story.namespace,
        "exec",
        "desk",
        "-c",
        "app",
        "--",
        "python",
        "-c",
        ATTACK,
        timeout_s=240,
    )
    found = json.loads(out)
    assert found["listeners"], "the sidecar listens somewhere"
    # Health and metrics may answer; nothing that a policy is made of, and no write.
    assert found["done"] == []
    assert found["abstract"] == []
    # Nothing changed: OPA still denies and masks what nobody has asked before, in new sessions, and takes new policy.
    for number in range(5):
        rows = client.execute(MASKED.replace("ssn FROM", f"ssn AS shape{number} FROM"))
        assert not unmasked(rows, truth)
        with pytest.raises(DeniedError) as denied:
            client.execute(f"SELECT pan AS shape{number} FROM cards WHERE id = 1")
        assert denied.value.sqlstate == "42501"
        client.disconnect()
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(lambda: "@" not in client.execute(MASKED)[0][1], within_s=30)
    story.kubectl.apply(story.policy())
    until(lambda: "@" in client.execute(MASKED)[0][1], within_s=30)
    assert story.restarts("desk") == 0


def test_application_sees_nothing_of_the_sidecars_files(story: Story):
    look = (
        "import os\n"
        "for p in ('/run/sluice', '/var/lib/sluice', '/var/run/secrets/sluice', '/etc/sluice'):\n"
        "    print(p, os.path.exists(p))\n"
        "print([k for k in os.environ if k.startswith('SLUICE')])\n"
    )
    out = story.kubectl(
        "-n", story.namespace, "exec", "desk", "-c", "app", "--", "python", "-c", look
    )
    assert "True" not in out
    assert out.splitlines()[-1] == "[]"


def test_listener_is_no_door_for_other_pods(story: Story):
    address = story.kubectl.get("-n", story.namespace, "pod", "desk")["status"]["podIP"]
    story.kubectl.apply(story.pod("neighbour", governed=False))
    story.wait_ready("neighbour")
    probe = (
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(('{address}', 5432), 3); print('open')\n"
        "except OSError as error: print('refused', error)\n"
    )
    out = story.kubectl(
        "-n", story.namespace, "exec", "neighbour", "-c", "app", "--", "python", "-c", probe
    )
    assert out.startswith("refused"), out


def test_nothing_the_application_sends_changes_its_identity(story: Story):
    client = story.client(
        "desk", dsn=story.dsn(application_name="shop_app", options="-csluice.actor%3Dadmin")
    )
    truth = raw(story.server)
    try:
        rows = client.execute(MASKED)
    except Exception:  # noqa: BLE001 - refused is fine; raw is not.
        return
    assert not unmasked(rows, truth)
