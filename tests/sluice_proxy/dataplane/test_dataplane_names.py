"""Upstreams by name: DNS alone, with a real resolver and a small DNS server of the test's own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import psycopg
import pytest

NAMESERVER = "127.0.53.53"
ZONE = "shop.svc.cluster.test."


class Zone:
    """Answers from a table; a name that is not in it does not exist."""

    def __init__(self, listening: socket.socket) -> None:
        self.socket = listening
        self.address = listening.getsockname()[0]
        self.records: dict[tuple[str, str], list[str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.silent = False

    def serve(self) -> None:
        while True:
            data, peer = self.socket.recvfrom(4096)
            if not data:
                return
            if not self.silent:
                self.socket.sendto(self.answer(data), peer)

    def answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        found = self.records.get((name, kind))
        if found:
            reply.answer.append(dns.rrset.from_text(name, 5, "IN", kind, *found))
        elif not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()


@pytest.fixture
def zone() -> Iterator[Zone]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        try:
            listening.bind((NAMESERVER, 53))
        except PermissionError:
            pytest.skip("port 53 is for root")
        one = Zone(listening)
        thread = threading.Thread(target=one.serve, daemon=True)
        thread.start()
        yield one
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (NAMESERVER, 53))
        thread.join()


@pytest.fixture
def named(start_stack, zone, tmp_path: Path) -> Callable:
    def start(host: str, **bounds):
        configuration = tmp_path / "resolv.conf"
        configuration.write_text(
            f"nameserver {zone.address}\nsearch {ZONE}\noptions ndots:5 timeout:1 attempts:1\n"
        )
        stack = start_stack(resolver="dns", resolv_conf=str(configuration), **bounds)
        stack.brain.upstream = f"{host}:{stack.server.port}"
        return stack

    return start


def failure(stack) -> psycopg.errors.Error:
    with pytest.raises(psycopg.OperationalError) as failed:
        stack.connect()
    return failed.value


def test_short_names_are_completed_by_the_search_list(named, zone):
    zone.records["db." + ZONE, "A"] = ["127.0.0.1"]
    with named("db").connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert ("db." + ZONE, "A") in zone.asked


def test_hosts_file_has_no_say(named, zone):
    hosts = Path("/etc/hosts").read_text().split("\n")
    names = [line.split()[1] for line in hosts if line.strip() and line[0] != "#"]
    stack = named(next(name for name in names if name != "localhost"), connect_timeout_s=3)
    assert "could not translate host name" in str(failure(stack))
    assert zone.asked


def test_every_address_is_tried(named, zone):
    zone.records["db." + ZONE, "A"] = ["127.0.0.77", "127.0.0.1"]
    zone.records["db." + ZONE, "AAAA"] = ["::1"]
    with named("db").connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_addresses_are_asked_of_nobody(named, zone):
    with named("127.0.0.1").connect() as connection:
        connection.execute("SELECT 1")
    assert zone.asked == []


def test_unknown_name_says_what_to_do(named):
    text = str(failure(named("nowhere")))
    assert 'FATAL:  could not translate host name "nowhere" to address' in text
    assert "Name or service not known" in text
    assert 'upstream "shop"' in text


def test_silent_nameserver_is_a_temporary_failure(named, zone):
    zone.silent = True
    text = str(failure(named("db", connect_timeout_s=2)))
    assert "Temporary failure in name resolution" in text or "timeout expired" in text


def test_missing_configuration_is_named(start_stack):
    stack = start_stack(resolver="dns", resolv_conf="/nonexistent/resolv.conf")
    stack.brain.upstream = "db:5432"
    assert "/nonexistent/resolv.conf cannot be used" in str(failure(stack))


def test_unreachable_database_names_each_address(named, zone):
    zone.records["db." + ZONE, "A"] = ["127.0.0.77"]
    zone.records["db." + ZONE, "AAAA"] = ["::1"]
    stack = named("db")
    stack.brain.upstream = "db:1"
    text = str(failure(stack))
    for address in ("127.0.0.77", "::1"):
        assert f'connection to server at "db" ({address}), port 1 failed: ' in text
    assert "HINT:" in text


def test_address_that_moved_is_asked_anew(named, zone):
    zone.records["db." + ZONE, "A"] = ["127.0.0.77"]
    stack = named("db")
    failure(stack)
    zone.records["db." + ZONE, "A"] = ["127.0.0.1"]
    with stack.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_way_back_to_the_proxy_itself_is_refused(named, zone):
    zone.records["db." + ZONE, "A"] = ["127.0.0.1"]
    stack = named("db")
    stack.brain.upstream = f"db:{stack.port}"
    assert "it is an address of the proxy itself" in str(failure(stack))


def test_cancel_goes_to_the_address_that_was_reached(named, zone):
    zone.records["db." + ZONE, "A"] = ["127.0.0.1"]
    with named("db").connect() as connection:
        zone.records.clear()
        threading.Timer(0.2, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(10)")
