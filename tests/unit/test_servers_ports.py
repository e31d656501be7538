from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import EnvironmentFailedError, UsageError
from harness.servers.embedded.server import EmbeddedServer
from harness.servers.ports import ATTEMPTS, LARGEST, PortTakenError, choose_ports, started
from harness.servers.server import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.processes import ChildProcess
    from harness.servers.embedded.environment import ServerEnvironment

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


def starts(*ends: Exception | None) -> tuple[list[int], Callable[[], str]]:
    """What starts a server and fails as often as told; and its attempts, as they are made."""
    left, made = list(ends), list[int]()

    def start() -> str:
        made.append(len(made))
        if (end := left.pop(0)) is not None:
            raise end
        return "server"

    return made, start


def test_where_somebody_was_quicker_it_starts_anew() -> None:
    taken = PortTakenError("already in use")
    made, start = starts(taken, None)
    assert started(start, given=False) == "server"
    assert len(made) == 2
    made, start = starts(*[taken] * 9)
    with pytest.raises(PortTakenError):
        started(start, given=False)
    assert len(made) == ATTEMPTS


@pytest.mark.parametrize(
    ("end", "given"), [(PortTakenError("taken"), True), (EnvironmentFailedError("no"), False)]
)
def test_given_ports_and_other_failures_are_not_tried_again(
    end: EnvironmentFailedError, given: bool
) -> None:
    made, start = starts(end, None)
    with pytest.raises(type(end)):
        started(start, given=given)
    assert len(made) == 1


@pytest.mark.parametrize("status", [None, 1])
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000' already in use ", PortTakenError),
        ("failed to start Metrics service: no such address", EnvironmentFailedError),
    ],
)  # fmt: skip
def test_the_embedded_server_says_that_its_port_is_taken(
    tmp_path: Path, said: str, kind: type[EnvironmentFailedError], status: int | None
) -> None:
    """It ends then, or goes on without that endpoint."""
    log = tmp_path / "tritonserver.log"
    log.write_text(f'E1126 15:00:00.000000 1 main.cc:80] "{said}"\n')
    child = SimpleNamespace(pid=os.getpid(), log=log, poll=lambda: status)
    nowhere = Endpoints("127.0.0.1", 1, 2, 3)
    server = EmbeddedServer(
        cast("ChildProcess", child), nowhere, cast("ServerEnvironment", None), [], ()
    )
    with pytest.raises(EnvironmentFailedError, match="failed to start") as caught:
        server.wait_ready(60)
    assert type(caught.value) is kind
