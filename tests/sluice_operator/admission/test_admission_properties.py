"""Whatever pod comes: it is refused, or it has our part as derived and its own as it was."""

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_operator.admission import names
from sluice_operator.admission.injection import inject
from sluice_operator.admission.model import Injection, Namespace, Refusal
from sluice_operator.admission.part import differences, split
from sluice_operator.admission.patching import difference
from sluice_operator.admission.pods import judge_created

NAMES = st.sampled_from(["app", "web", "job", "sluice-proxy", "sluice-init", "sluice-x", "mesh"])
VOLUMES = st.sampled_from(["data", "sluice-run", "sluice-token", "sluice-catalog-0", "tmp"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner),
    max_leaves=12,
)
MOUNTS = st.lists(st.fixed_dictionaries({"name": VOLUMES, "mountPath": st.just("/m")}), max_size=2)
CONTAINER = st.fixed_dictionaries(
    {"name": NAMES, "image": st.just("i")},
    optional={
        "volumeMounts": MOUNTS,
        "securityContext": st.fixed_dictionaries(
            {},
            optional={
                "runAsUser": st.sampled_from([0, 1000, 16021]),
                "privileged": st.booleans(),
            },
        ),
        "resources": st.just({"limits": {"cpu": "1", "memory": "1Gi"}}),
        "future": JSON,
    },
)
POD = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"labels": st.dictionaries(st.sampled_from(["app", "job-name"]), st.just("x"))},
            optional={
                "annotations": st.dictionaries(
                    st.sampled_from(
                        ["a/b~c", "sluice.dev/log-level", "sluice.dev/digest", names.SAFE_TO_EVICT]
                    ),
                    st.sampled_from(["info", "data,sluice-run", "", "x"]),
                )
            },
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(CONTAINER, min_size=1, max_size=2)},
            optional={
                "initContainers": st.lists(CONTAINER, max_size=3),
                "volumes": st.lists(st.fixed_dictionaries({"name": VOLUMES}), max_size=2),
                "hostAliases": st.lists(
                    st.fixed_dictionaries(
                        {
                            "ip": st.sampled_from(["10.0.0.1", "127.0.0.1", "127.0.0.40"]),
                            "hostnames": st.lists(
                                st.sampled_from(["mail", "shop-pg.shop"]), max_size=2
                            ),
                        }
                    ),
                    max_size=2,
                ),
                "hostNetwork": st.booleans(),
                "future": JSON,
            },
        ),
    }
)
NAMESPACES = st.sampled_from([Namespace("shop"), Namespace("support"), Namespace("other")])


def own(pod: dict[str, Any]) -> dict[str, Any]:
    """What is the application's: without our part, and without annotations that came to be empty."""
    _, rest = split(pod)
    annotations = rest["metadata"].get("annotations", {})
    if not annotations.get(names.SAFE_TO_EVICT):
        annotations.pop(names.SAFE_TO_EVICT, None)
    if not annotations:
        rest["metadata"].pop("annotations", None)
    for key in ("initContainers", "volumes", "hostAliases"):
        if not rest["spec"].get(key):
            rest["spec"].pop(key, None)
    return rest


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pod=POD, namespace=NAMESPACES)
def test_any_pod_is_refused_or_governed(estate, settings, apply_patch, pod, namespace):
    pod["metadata"]["labels"]["sluice.dev/inject"] = "true"
    before = copy.deepcopy(pod)
    result = inject(pod, namespace, estate, settings)
    assert pod == before
    if isinstance(result, Refusal):
        return
    after = apply_patch(result.patch, pod)
    assert judge_created(after, namespace, estate, settings) == Injection()
    assert inject(after, namespace, estate, settings).patch == ()
    assert own(after) == own(pod)
    assert after["spec"]["containers"] == pod["spec"]["containers"]
    ours = after["spec"]["initContainers"][:2]
    assert [container["name"] for container in ours] == list(names.CONTAINERS)
    mounts = [
        mount["name"]
        for container in [*after["spec"]["containers"], *after["spec"]["initContainers"][2:]]
        for mount in container.get("volumeMounts", [])
    ]
    assert not [name for name in mounts if name.startswith("sluice-")]


@settings(max_examples=60, deadline=None)
@given(
    pod=POD,
    where=st.integers(0, 1),
    change=st.dictionaries(st.sampled_from("ab"), JSON.filter(lambda v: v is not None), min_size=1),
)
def test_any_addition_to_our_containers_is_found(  # noqa: PLR0917
    estate, settings, apply_patch, pod, where, change
):
    pod["metadata"]["labels"]["sluice.dev/inject"] = "true"
    result = inject(pod, Namespace("support"), estate, settings)
    if isinstance(result, Refusal):
        return
    after = apply_patch(result.patch, pod)
    derived = split(after)[0]
    changed = copy.deepcopy(after)
    changed["spec"]["initContainers"][where] |= change
    assert list(differences(split(changed)[0], derived))
    assert isinstance(inject(changed, Namespace("support"), estate, settings), Refusal)


@settings(max_examples=300, deadline=None)
@given(before=JSON, after=JSON)
def test_patch_turns_anything_into_anything(apply_patch, before, after):
    one, other = {"x": before}, {"x": after}
    assert apply_patch(difference(one, other), one) == other
