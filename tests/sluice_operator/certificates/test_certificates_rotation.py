"""The life of authorities and keys, by a clock of the test's own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_operator.certificates.authority import Authority
from sluice_operator.certificates.rotation import Authorities, Lives, leaf_problem, rotated
from sluice_operator.certificates.signing import SigningKeys

START = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ["sluice-bundles.sluice-system.svc", "sluice-bundles.sluice-system"]
LIVES = Lives(timedelta(minutes=40), timedelta(minutes=10))


class World:
    """An operator that looks now and then, and a client that only knows what it was told."""

    def __init__(self) -> None:
        self.now = START
        self.authorities: Authorities | None = None
        self.leaf: bytes | None = None
        self.told: tuple[Authority, ...] = ()

    def look(self, *, reaches: bool = True) -> None:
        told = self.authorities is not None and self.told == self.authorities.trusted
        self.authorities = rotated(self.authorities, self.now, LIVES, published=told)
        if leaf_problem(self.leaf, self.authorities, HOSTS, self.now) is not None:
            self.leaf, _ = self.authorities.current.issue(HOSTS, self.now, LIVES.leaf)
        if reaches:
            self.told = self.authorities.trusted

    def client_is_content(self) -> bool:
        leaf = x509.load_pem_x509_certificate(self.leaf)
        valid = leaf.not_valid_before_utc <= self.now < leaf.not_valid_after_utc
        return valid and any(one.signed(leaf) and one.expires_at > self.now for one in self.told)


def test_client_is_never_without_a_valid_certificate_over_many_rotations():
    world, authorities, most = World(), set(), 0
    world.look()
    for _ in range(400):
        world.now += timedelta(minutes=1)
        world.look()
        assert world.client_is_content()
        authorities.add(world.authorities.current.certificate.serial_number)
        most = max(most, len(world.authorities.trusted))
    assert len(authorities) > 5
    assert most == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=20, max_size=60))
def test_next_authority_signs_only_after_it_was_told(steps):
    world = World()
    world.look()
    for minutes, reaches in steps:
        world.now += timedelta(minutes=minutes)
        before = world.authorities.current
        world.look(reaches=reaches)
        if world.authorities.current is not before and world.now < before.expires_at:
            assert any(one.pem == world.authorities.current.pem for one in world.told)
            assert world.authorities.previous.pem == before.pem
            assert world.authorities.previous.key is None


def test_previous_authority_goes_when_its_last_leaf_has_ended():
    world = World()
    world.look()
    while world.authorities.previous is None:
        world.now += timedelta(minutes=1)
        world.look()
    took_over, old = world.now, world.authorities.previous
    while world.authorities.previous is not None:
        world.now += timedelta(minutes=1)
        world.look()
    assert world.now >= min(took_over + LIVES.leaf, old.expires_at)
    assert world.now <= took_over + LIVES.leaf + timedelta(minutes=1)


def test_authorities_survive_their_storage():
    world = World()
    world.look()
    for _ in range(120):
        world.now += timedelta(minutes=1)
        world.look()
        data = world.authorities.dump()
        again = Authorities.load(data)
        assert again.dump() == data
        # What decides is the same after a restart.
        again_next = rotated(again, world.now, LIVES, published=True)
        assert (
            again_next.dump().keys()
            == rotated(world.authorities, world.now, LIVES, published=True).dump().keys()
        )


def test_after_too_long_a_sleep_a_new_authority_begins():
    world = World()
    world.look()
    old = world.authorities.current
    world.now += LIVES.authority * 2
    world.look()
    assert world.authorities.current is not old
    assert world.client_is_content()


def test_leaf_is_made_anew_for_a_reason():
    authority = Authority.create(START, LIVES.authority)
    authorities = Authorities(authority)
    leaf, key = authority.issue(HOSTS, START, LIVES.leaf)
    assert leaf_problem(leaf, authorities, HOSTS, START) is None
    later = START + timedelta(minutes=7)
    assert leaf_problem(leaf, authorities, HOSTS, later) == "two thirds of its life are over"
    assert leaf_problem(leaf, authorities, HOSTS[:1], START) == "it is for other names"
    assert leaf_problem(b"no", authorities, HOSTS, START) == "it cannot be read"
    other = Authorities(Authority.create(START, LIVES.authority))
    assert leaf_problem(leaf, other, HOSTS, START) == "another authority signs now"
    assert b"PRIVATE KEY" in key
    assert "PRIVATE" not in repr(authorities)
    assert ssl.create_default_context(cadata=authorities.bundle_pem)


def test_signing_key_is_known_one_period_before_it_signs():
    keys = SigningKeys.create(START)
    life = timedelta(days=90)
    assert keys.rotated(START + life - timedelta(seconds=1), life) is keys
    after = keys.rotated(START + life, life)
    assert after.present.key_id == keys.next.key_id
    assert after.present.key_id in keys.public
    assert keys.present.key_id not in after.public
    assert SigningKeys.load(after.dump()).public == after.public
    with pytest.raises(ValueError, match=r"next\.pem is missing"):
        SigningKeys.load({"present.pem": keys.present.private_pem()})
