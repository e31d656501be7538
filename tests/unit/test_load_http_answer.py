from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.access import Access
from harness.load.answers import Answer, Output
from harness.load.links.http_answer import parse_head, parse_http
from harness.load.outcomes import FailedRequestError
from harness.records import Outcome

# As a real Triton 2.51 sent them.
JSON = (
    b'{"model_name":"m","model_version":"1","outputs":[{"name":"OUT","datatype":"FP32",'
    b'"shape":[1,2],"parameters":{"binary_data_size":8}}]}'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    b"Inference-Header-Content-Length: %d\r\nContent-Length: %d"
)
QUEUE_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b'Content-Length: 65\r\n\r\n{"error":"[request id: <id_unknown>] Exceeds maximum queue size"}'
)


def response(header: bytes = JSON, data: bytes = b"12345678") -> bytes:
    return HEAD % (len(header), len(header) + len(data)) + b"\r\n\r\n" + header + data


def failed(raw: bytes) -> tuple[Outcome, str]:
    with pytest.raises(FailedRequestError) as caught:
        parse_http(raw)
    return caught.value.outcome, caught.value.reason


def test_a_binary_answer() -> None:
    assert parse_http(response()) == Answer("m", (Output("OUT", "FP32", (1, 2), b"12345678"),))


def test_an_answer_all_in_json() -> None:
    body = json.dumps(
        {
            "model_name": "m",
            "outputs": [{"name": "N", "datatype": "INT32", "shape": [2], "data": [1, -1]}],
        }
    ).encode()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    data = (1).to_bytes(4, "little") + (-1).to_bytes(4, "little", signed=True)
    assert parse_http(raw) == Answer("m", (Output("N", "INT32", (2,), data),))


def test_outputs_of_no_bytes_are_outputs_of_no_bytes() -> None:
    """As Triton 2.51 answers with the wrong NumPy: no part of the body is said to be binary."""
    body = JSON.replace(b":8}", b":0}")
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert parse_http(raw) == Answer("m", (Output("OUT", "FP32", (1, 2), b""),))


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (QUEUE_FULL, Outcome.REJECTED),
        (QUEUE_FULL.replace(b"Exceeds maximum queue size", b"x" * 26), Outcome.HTTP_5XX),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Outcome.HTTP_4XX),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\n!", Outcome.HTTP_5XX),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", Outcome.OTHER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Outcome.WRONG_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull", Outcome.WRONG_ANSWER),
        (response(JSON[:-1]), Outcome.WRONG_ANSWER),
        (response(data=b"1234567"), Outcome.WRONG_ANSWER),
        (response(data=b"123456789"), Outcome.WRONG_ANSWER),
        (response(JSON.replace(b":8}", b":-8}")), Outcome.WRONG_ANSWER),
        (response(JSON.replace(b"[1,2]", b"null")), Outcome.WRONG_ANSWER),
        (response(b"[" * 100_000), Outcome.WRONG_ANSWER),
    ],
)
def test_what_is_no_answer_has_its_outcome(raw: bytes, outcome: Outcome) -> None:
    assert failed(raw)[0] is outcome


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/2 200 OK\r\nContent-Length: 1",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nno colon",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
    ],
)
def test_a_malformed_head_is_refused(head: bytes) -> None:
    with pytest.raises(FailedRequestError) as caught:
        parse_head(head)
    assert caught.value.outcome is Outcome.OTHER
    assert "malformed" in caught.value.reason


def test_what_a_head_says() -> None:
    head = parse_head(HEAD % (5, 9))
    assert (head.status, head.length, head.json_length, head.close) == (200, 9, 5, False)
    assert parse_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked").length is None
    assert parse_head(b"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: 0").close
    assert parse_head(b"HTTP/1.0 200 OK\r\nContent-Length: 0").close
    assert not parse_head(b"HTTP/1.0 200\r\nConnection: Keep-Alive\r\nContent-Length: 0").close
    to_its_end = parse_head(b"HTTP/1.0 503 Service Unavailable")
    assert (to_its_end.length, to_its_end.chunked, to_its_end.close) == (None, False, True)


def test_a_header_may_come_twice_if_it_is_a_list() -> None:
    head = (HEAD % (5, 9)) + b"\r\nSet-Cookie: A=1\r\nset-cookie: B=2\r\nConnection: x"
    assert not parse_head(head).close
    assert parse_head(head + b"\r\nConnection: Close").close


@given(st.binary(max_size=300))
def test_arbitrary_heads_fail_in_order(head: bytes) -> None:
    outcome, _ = outcome_of(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + JSON)
    assert outcome in (Outcome.OTHER, Outcome.WRONG_ANSWER)


@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["model_name", "outputs", "name", "datatype", "shape", "parameters"]
                ),
                inner,
            )
        ),
        max_leaves=20,
    ),
    data=st.binary(max_size=20),
)
def test_arbitrary_json_fails_in_order(header: object, data: bytes) -> None:
    outcome, answer = outcome_of(response(json.dumps(header).encode(), data))
    assert outcome in (Outcome.OK, Outcome.WRONG_ANSWER)
    if answer is not None:
        assert b"".join(output.data for output in answer.outputs) == data


def outcome_of(raw: bytes) -> tuple[Outcome, Answer | None]:
    try:
        return Outcome.OK, parse_http(raw)
    except FailedRequestError as error:
        return error.outcome, None


def test_a_json_header_beyond_all_bounds_is_not_parsed() -> None:
    outcome, reason = failed(response(JSON + b" " * (1 << 20)))
    assert outcome is Outcome.WRONG_ANSWER
    assert "a JSON header of" in reason


def test_a_secret_in_a_long_answer_is_found_before_that_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason is cut only where it is shown."""
    secret = "s3cr3t-" + "A" * 1000
    monkeypatch.setenv("TOKEN", secret)
    body = b"x" * 480 + b" Bearer " + secret.encode()
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert "s3cr3t" not in Access(token_env="TOKEN").redacted(failed(head + body)[1])
