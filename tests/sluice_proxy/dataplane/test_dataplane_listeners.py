"""Listeners of several databases, which come and go while sessions run."""

from __future__ import annotations

import socket

import psycopg
import pytest


def reach(stack, address: str) -> psycopg.Connection:
    host, _, port = address.rpartition(":")
    info = psycopg.conninfo.conninfo_to_dict(stack.dsn())
    info |= {"host": host.strip("[]"), "port": port}
    return psycopg.connect(**info, autocommit=True)


def test_listeners_are_told_apart_by_their_names(stack):
    second = stack.plane.listen("orders", "127.0.0.2:0")
    with stack.connect(), reach(stack, second) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    opened = [one.listener for one in stack.brain.seen if hasattr(one, "listener")]
    assert opened == ["shop", "orders"]


def test_same_port_on_addresses_of_their_own(stack):
    address = f"127.0.0.2:{stack.port}"
    assert stack.plane.listen("orders", address) == address
    with reach(stack, address) as connection:
        connection.execute("SELECT 1")


def test_closed_listener_takes_nobody_and_its_sessions_go_on(stack):
    with stack.connect() as connection:
        assert stack.plane.close_listener(stack.address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((stack.host, stack.port))
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not stack.plane.close_listener(stack.address)
    assert stack.plane.listen("shop", stack.address) == stack.address
    with stack.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_ipv6_loopback(stack):
    address = stack.plane.listen("shop", "[::1]:0")
    assert address.startswith("[::1]:")
    with reach(stack, address) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert any(one.peer.startswith("[::1]:") for one in stack.brain.seen if hasattr(one, "peer"))
    assert stack.plane.close_listener(address)


def test_unix_socket_is_removed_with_its_listener(stack, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "s"
    address = stack.plane.listen("shop", f"unix:{path}")
    assert path.is_socket()
    assert stack.plane.close_listener(address)
    assert not path.exists()
