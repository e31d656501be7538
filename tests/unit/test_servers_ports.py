from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import EnvironmentFailedError, UsageError
from harness.servers.ports import LARGEST, choose_ports

NAMES = ("http", "grpc", "metrics")


@given(st.integers(1, 12))
def test_picked_ports_are_free_and_all_different(count: int) -> None:
    ports = choose_ports({str(number): 0 for number in range(count)})
    assert list(ports) == [str(number) for number in range(count)]
    assert len(set(ports.values())) == count
    for port in ports.values():
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_given_port_is_kept_wherever_it_stands() -> None:
    free = choose_ports({"any": 0})["any"]
    for name in NAMES:
        ports = choose_ports(dict.fromkeys(NAMES, 0) | {name: free})
        assert ports[name] == free
        assert len(set(ports.values())) == 3


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_taken(address: str) -> None:
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFailedError, match=f"port {port}, wanted for grpc, is taken"):
            choose_ports({"http": 0, "grpc": port})


def test_a_port_whose_connections_linger_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            accepted.close()  # the side that closes first keeps the port in TIME_WAIT
    assert choose_ports({"http": port}) == {"http": port}


@pytest.mark.parametrize("port", [-1, LARGEST + 1])
def test_what_is_no_port_is_bad_usage(port: int) -> None:
    with pytest.raises(UsageError, match=f"{port} is no port for http"):
        choose_ports({"http": port})


def test_one_port_for_two_is_bad_usage() -> None:
    with pytest.raises(UsageError, match="given twice"):
        choose_ports({"http": 9000, "grpc": 9000})
