from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.access import OPEN, Access
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-hunter2"
ACCESS = Access(token_env="A_TOKEN", headers=(("X-Tenant", "A_TENANT"),))


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", f" {SECRET}\n")
    monkeypatch.setenv("A_TENANT", "blue")


def test_a_secret_is_looked_up_where_it_is_sent() -> None:
    assert ACCESS.header_values() == {"x-tenant": "blue", "authorization": f"Bearer {SECRET}"}
    assert OPEN.header_values() == {}


def test_no_secret_is_part_of_what_is_written_down() -> None:
    assert SECRET not in repr(ACCESS) + str(ACCESS.to_json())
    assert Access.from_json(ACCESS.to_json()) == ACCESS


def test_what_a_server_echoes_is_taken_out() -> None:
    assert ACCESS.redacted(f"401: Bearer {SECRET} is wrong") == "401: Bearer *** is wrong"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: yes", "a\nb", "a\0b", "☃"])
def test_a_header_cannot_smuggle_another_one_in(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" in value:
        monkeypatch.setattr("os.environ", {"A_TOKEN": value, "A_TENANT": "x"})
    else:
        monkeypatch.setenv("A_TOKEN", value)
    with pytest.raises(UsageError, match="A_TOKEN holds characters that no header can") as caught:
        ACCESS.header_values()
    assert "yes" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_that_is_not_set_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", value)
    with pytest.raises(UsageError, match="A_TOKEN, which holds the token to send, is not set"):
        ACCESS.header_values()


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("not PEM")
    with pytest.raises(UsageError, match=r"ca\.pem: the certificates to trust cannot be used"):
        Access(http_tls=True, ca=str(nonsense)).tls_context()
    with pytest.raises(UsageError, match=r"own\.pem: the client's certificate or its key cannot"):
        Access(http_tls=True, certificate=str(tmp_path / "own.pem")).tls_context()
