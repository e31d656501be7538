"""HTTPS through nginx, with a bearer token and a client's certificate; gRPC with Triton's own TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.access import OPEN, Access
from harness.errors import EnvironmentFailedError
from tests.certificates import Certificates, Pair, make_certificates
from tests.footprint import wait_until
from tests.somebody import Somebody, https_proxy, somebody
from tests.visits import MODEL, QUICK, SWEEP, archive, asked, start_harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "t0ken-that-nobody-may-see"
BOTH = "sweep: {protocol: [http, grpc], concurrency: 4}\n"
GRPC = "sweep: {protocol: grpc, concurrency: 4}\n"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def grpc_tls(made: Certificates, own: Pair) -> tuple[str, ...]:
    """Options of a Triton that shows a certificate over gRPC, and asks for the client's."""
    return (
        "--grpc-use-ssl=1",
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={own.certificate}",
        f"--grpc-server-key={own.key}",
        f"--grpc-root-cert={made.ca.certificate}",
    )


@pytest.fixture(scope="module")
def ports(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, int]]:
    made = certificates
    pair = (str(made.client.certificate), str(made.client.key))
    access = Access(False, True, str(made.ca.certificate), *pair)
    folder = tmp_path_factory.mktemp("tls")
    arguments = grpc_tls(made, made.server)
    with somebody(folder, extra_args=arguments, access=access) as triton:
        at = triton.server.endpoints
        with https_proxy(folder, at.http_port, made, TOKEN) as ports:
            yield {**ports, "grpc": at.grpc_port or 0, "plain": at.http_port}


@pytest.fixture(scope="module")
def expired(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Somebody]:
    """A Triton whose certificate over gRPC has expired, so that its owner loads nothing either."""
    arguments = grpc_tls(certificates, certificates.expired)
    folder = tmp_path_factory.mktemp("expired")
    with somebody(folder, extra_args=arguments, access=OPEN, loaded=False) as triton:
        yield triton


def scenario(ports: dict[str, int], made: Certificates, *, ca: str = "", **change: str) -> str:
    files = f"ca: {ca or made.ca.certificate}"
    own = f"certificate: {made.client.certificate}, key: {made.client.key}"
    words = {
        "kind": "remote",
        "host": "localhost",
        "http_port": str(ports["good"]),
        "grpc_port": str(ports["grpc"]),
        "tls": f"{{{files}, {own}}}",
        "token_env": "TEST_TOKEN",
    } | change
    return f"server: {{{', '.join(f'{key}: {value}' for key, value in words.items())}}}\n"


@pytest.mark.parametrize(
    ("sender", "sweep"),
    [("raw", BOTH), pytest.param("tritonclient", GRPC, marks=pytest.mark.long)],
)
def test_a_run_over_tls_with_a_token(
    ports: dict[str, int],
    certificates: Certificates,
    tmp_path: Path,
    sender: str,
    sweep: str,
) -> None:
    text = MODEL + scenario(ports, certificates) + sweep
    measure = QUICK.replace("sentinels", f"sender: {sender}, sentinels")
    session = start_harness(text + measure, tmp_path, environment={"TEST_TOKEN": TOKEN})
    seen: list[str] = []

    def sending() -> bool:
        seen.append(session.commands())  # at this moment: the run may be over at the next
        return "harness.load.process" in seen[-1] or session.process.poll() is not None

    wait_until(sending, 120, "a load generator")
    code, out, err = session.end()
    assert code in (0, 4), err
    _, trials, archived = archive(session)
    protocols = {"http", "grpc"} if sender == "raw" else {"grpc"}
    assert {trial.point.workload.protocol for trial in trials} == protocols
    assert [trial.failure for trial in trials] == [None] * len(trials)
    assert all(t.statistics and t.statistics.success_count > 0 for t in trials)
    words = "\n".join(seen)
    assert "harness.load.process" in words
    assert TOKEN not in archived + out + err + words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ca": "OTHER"}, "its certificate is not accepted"),
        ({"http_port": "expired"}, "certificate has expired"),
        ({"http_port": "elsewhere"}, "is not valid for 'localhost'"),
        ({"http_port": "plain"}, "the port does not speak TLS"),
        ({"token_env": "WRONG_TOKEN"}, "HTTP 401"),
        ({"tls": "{ca: CA}"}, "No required SSL certificate was sent"),
        ({"tls": "{ca: CA, grpc: false, certificate: OWN, key: KEY}"}, "server metadata"),
    ],
)
def test_what_is_wrong_with_tls_is_said_in_one_sentence(
    ports: dict[str, int],
    certificates: Certificates,
    change: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = certificates
    monkeypatch.setenv("WRONG_TOKEN", "not-the-right-one")
    names = {
        "OTHER": str(made.other_ca.certificate),
        "CA": str(made.ca.certificate),
        "OWN": str(made.client.certificate),
        "KEY": str(made.client.key),
    }
    change = {key: str(ports.get(value, value)) for key, value in change.items()}
    for old, new in names.items():
        change = {key: value.replace(old, new) for key, value in change.items()}
    with pytest.raises(EnvironmentFailedError) as caught:
        asked(MODEL + scenario(ports, made, **change) + SWEEP)
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ca": "OTHER"}, "its certificate is not accepted"),
        ({"http_port": "expired"}, "certificate has expired"),
        ({"http_port": "plain"}, "the port does not speak TLS"),
    ],
)
def test_a_run_that_cannot_begin_exits_with_3(
    ports: dict[str, int],
    certificates: Certificates,
    tmp_path: Path,
    change: dict[str, str],
    said: str,
) -> None:
    other = str(certificates.other_ca.certificate)
    change = {key: str(ports.get(value, other)) for key, value in change.items()}
    text = scenario(ports, certificates, **change)
    code, out, err = start_harness(MODEL + text + SWEEP, tmp_path, "--dry-run").end()
    assert code == 3, err
    assert said in err
    assert "Traceback" not in out + err
    assert TOKEN not in out + err


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ca", "its certificate is not accepted"),
        ("expired", "its certificate is not accepted: certificate has expired"),
        ("plain", "the port does not speak TLS"),
    ],
)
def test_what_is_wrong_with_the_tls_of_grpc_alone_exits_with_3(
    request: pytest.FixtureRequest,
    ports: dict[str, int],
    certificates: Certificates,
    tmp_path: Path,
    fault: str,
    said: str,
) -> None:
    made = certificates
    ca = made.other_ca if fault == "ca" else made.ca
    port = ports["grpc"]
    if fault != "ca":
        other: Somebody = request.getfixturevalue("expired" if fault == "expired" else "owner")
        port = other.server.endpoints.grpc_port or 0
    own = f"certificate: {made.client.certificate}, key: {made.client.key}"
    tls = f"{{ca: {ca.certificate}, {own}, http: false}}"
    change = {"http_port": str(ports["plain"]), "grpc_port": str(port), "tls": tls}
    text = scenario(ports, made, **change)
    code, out, err = start_harness(MODEL + text + GRPC, tmp_path, "--dry-run").end()
    assert code == 3, err
    words = " ".join(err.split())
    assert f"localhost:{port}: {said}" in words  # HTTP, which is asked first, has answered
    assert "Traceback" not in out + err
    assert TOKEN not in out + err
