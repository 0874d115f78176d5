"""A bundle gives its content back to those who know its key, and to nobody else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluice_policy import Profile, SigningKey, bundle, compile_profile, load_directory
from sluice_policy.opening import opened, signing_key_id

SHOP = Path(__file__).parents[2] / "examples" / "shop"
WEB = Profile("shop", "default", {"app": "web"})
KEY = SigningKey.generate()


@pytest.fixture(scope="module")
def compiled():
    return compile_profile(load_directory(SHOP).resources, WEB)


@pytest.fixture(scope="module")
def raw(compiled):
    return bundle(
        compiled,
        sequence=3,
        issued_at=datetime.now(UTC),
        profile_id=WEB.id,
        max_policy_age_s=60,
        key=KEY,
    )


def test_content_comes_back_as_it_was(compiled, raw):
    content = opened(raw, keys={KEY.key_id: KEY.public_pem}, profile_id=WEB.id)
    assert content.revision == compiled.revision
    assert content.data == compiled.data
    assert dict(content.modules) == dict(compiled.modules)
    assert signing_key_id(raw) == KEY.key_id


def test_content_of_an_unknown_key_or_another_profile_is_not_believed(raw):
    other = SigningKey.generate()
    for keys, profile_id, why in [
        ({other.key_id: other.public_pem}, WEB.id, "cannot be opened"),
        ({KEY.key_id: other.public_pem}, WEB.id, "signature does not hold"),
        ({KEY.key_id: KEY.public_pem}, "shop/default/000000000000", "another profile"),
    ]:
        with pytest.raises(ValueError, match=why):
            opened(raw, keys=keys, profile_id=profile_id)


def test_changed_bytes_are_not_believed(raw):
    for broken in (b"", raw[: len(raw) // 2], b"\x1f\x8b" + raw[9:], raw[: len(raw) // 2] + raw):
        with pytest.raises(ValueError, match="bundle"):
            opened(broken, keys={KEY.key_id: KEY.public_pem}, profile_id=WEB.id)
    assert signing_key_id(b"") is None
