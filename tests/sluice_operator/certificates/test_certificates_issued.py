"""Certificates that somebody else issues, by a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_operator.certificates.authority import BACKDATE, Authority
from sluice_operator.certificates.issued import Issued, anchors, pem_of, served

START = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ["sluice-bundles.sluice-system.svc", "sluice-bundles.sluice-system"]
LIFE = timedelta(minutes=75)
STEP = timedelta(minutes=1)


def issue(
    authority: Authority, now: datetime, hosts: list[str] = HOSTS, life: timedelta = LIFE
) -> Issued:
    certificate, key = authority.issue(hosts, now, life)
    return Issued.load({"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem})


def other(now: datetime) -> Authority:
    return Authority.create(now, timedelta(days=30))


class World:
    """An issuer, an operator that looks each minute, and a client that knows what it was told."""

    def __init__(self) -> None:
        self.now = START
        self.authority = other(START)
        self.issued = issue(self.authority, START)
        self.secret: dict[str, bytes] | None = None
        self.told = ""

    @property
    def present(self) -> Issued:
        assert self.secret is not None
        return Issued.load(self.secret)

    @property
    def trusted(self) -> str:
        return pem_of(self.present.authorities)

    def look(self, *, reaches: bool = True) -> None:
        present = None if self.secret is None else Issued.load(self.secret)
        if present is not None and present.problem(HOSTS, self.now):
            present = None
        published = present is not None and self.told == self.trusted
        self.secret = served(self.issued, present, self.now, published=published).dump()
        if reaches:
            self.told = self.trusted

    def pass_minutes(self, minutes: int, *, reaches: bool = True) -> None:
        for _ in range(minutes):
            self.now += STEP
            self.look(reaches=reaches)
            assert self.client_is_content(), self.now

    def client_is_content(self) -> bool:
        known = [one for one in self.present.authorities if pem_of([one]) in self.told]
        return bool(anchors(self.present.chain, known, self.now))

    def serves_issued(self) -> bool:
        return self.present.leaf == self.issued.leaf


def test_renewal_of_the_same_authority_is_served_at_once():
    world = World()
    world.look()
    world.issued = issue(world.authority, START + STEP)
    world.pass_minutes(1)
    assert world.serves_issued()
    assert len(world.present.authorities) == 1


def test_another_authority_is_trusted_before_it_serves_and_the_old_one_after():
    world = World()
    world.look()
    world.now += timedelta(minutes=40)
    world.authority = other(world.now)
    world.issued = issue(world.authority, world.now)
    world.pass_minutes(9)
    assert not world.serves_issued()
    assert len(world.present.authorities) == 2
    world.pass_minutes(5)
    assert world.serves_issued()
    assert len(world.present.authorities) == 2
    world.pass_minutes(12)
    assert world.present.authorities == world.issued.authorities


def test_another_authority_waits_for_everybody_to_be_told_but_not_beyond_the_old_certificate():
    world = World()
    world.look()
    world.authority = other(START)
    world.issued = issue(world.authority, START, life=LIFE * 4)
    world.pass_minutes(70, reaches=False)
    assert not world.serves_issued()
    world.now = world.present.expires_at - STEP
    world.look(reaches=False)
    assert world.serves_issued()


def test_renewed_authority_with_its_old_key_serves_at_once():
    world = World()
    world.look()
    renewed = _cross(world.authority, world.authority, START + STEP)
    world.issued = issue(renewed, START + STEP)
    world.pass_minutes(1)
    assert world.serves_issued()
    assert len(world.present.authorities) == 2
    world.pass_minutes(12)
    assert world.present.authorities == (renewed.certificate,)


def _cross(subject: Authority, by: Authority, now: datetime) -> Authority:
    """An authority's name and key, certified anew by another one, or by itself."""
    assert by.key is not None
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject.certificate.subject)
        .issuer_name(by.certificate.subject)
        .public_key(subject.certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=60))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(by.key, hashes.SHA256())
    )
    return Authority(certificate, subject.key)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(12, 30), st.sampled_from(["renew", "authority", "nothing"])),
        min_size=2,
        max_size=8,
    )
)
def test_client_is_never_cut_off_whatever_the_issuer_does(events):
    world = World()
    world.look()
    for minutes, event in events:
        if event == "authority":
            world.authority = other(world.now)
        # An issuer renews what is due by itself.
        if event != "nothing" or world.now > world.issued.expires_at - LIFE / 2:
            world.issued = issue(world.authority, world.now)
        world.pass_minutes(minutes)
    # Authorities that follow each other faster than the overlap are trusted side by side, until it is quiet.
    world.issued = issue(world.authority, world.now)
    world.pass_minutes(40)
    assert world.present.authorities == world.issued.authorities


def test_intermediate_is_part_of_the_chain():
    root = other(START)
    between = _cross(other(START), root, START)
    certificate, key = between.issue(HOSTS, START, LIFE)
    whole = Issued.load({"tls.crt": certificate + between.pem, "tls.key": key, "ca.crt": root.pem})
    assert whole.problem(HOSTS, START) is None
    same = _cross(root, root, START).certificate
    assert anchors(whole.chain, [same, other(START).certificate], START) == (same,)
    alone = Issued.load({"tls.crt": certificate, "tls.key": key, "ca.crt": root.pem})
    assert "no authority" in (alone.problem(HOSTS, START) or "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tls.key": b""}, "tls.key missing"),
        ({"ca.crt": b""}, "ca.crt missing"),
        ({"tls.crt": b"x"}, "tls.crt cannot be read"),
        ({"tls.key": b"x"}, "tls.key cannot be read"),
        ({"tls.key": issue(other(START), START).data["tls.key"]}, "tls.key is not that of tls.crt"),
    ],
)
def test_unreadable_secret_says_what_of_it(change, said):
    with pytest.raises(ValueError, match=said):
        Issued.load({**issue(other(START), START).data, **change})


def test_certificate_that_clients_would_refuse_says_why():
    good = issue(other(START), START)
    assert good.problem(HOSTS, START) is None
    assert "not for elsewhere.svc" in str(good.problem(["elsewhere.svc"], START))
    assert "ended" in str(good.problem(HOSTS, START + LIFE))
    assert "begins" in str(good.problem(HOSTS, START - timedelta(hours=1)))
    strange = Issued.load({**good.data, "ca.crt": other(START).pem})
    assert "no authority in ca.crt" in str(strange.problem(HOSTS, START))
    assert "PRIVATE" not in repr(good)
