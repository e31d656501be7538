"""Log and trace settings of a running server.

Setting is the same done once or twice, so both are tried again where the connection broke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.server_spec import ServerSpec
    from harness.servers.connection import Connection

__all__ = ["record", "set_log_settings", "set_trace_settings"]

LogSettings = dict[str, bool | int | str]
TraceSettings = dict[str, tuple[str, ...]]


def set_log_settings(connection: Connection, settings: Mapping[str, bool | int | str]) -> None:
    """Change some of the server's log settings.

    Raises:
        EnvironmentFailedError: no answer within the connection's deadline, or the server does not take one.
    """
    answer = connection.read(
        "setting the log", connection.client.update_log_settings, settings=dict(settings)
    )
    _check("log", settings, _log(answer), connection.address)


def set_trace_settings(
    connection: Connection, settings: Mapping[str, Sequence[str] | None], model: str = ""
) -> None:
    """Change some trace settings of a model, or of the server; ``None`` sets one back to its default.

    The file is none of them: Triton takes it on its command line only.

    Raises:
        EnvironmentFailedError: no answer within the connection's deadline, or the server does not take one.
    """
    answer = connection.read(
        "setting the trace",
        connection.client.update_trace_settings,
        model_name=model,
        settings={name: value and list(value) for name, value in settings.items()},
    )
    asked = {name: tuple(value) for name, value in settings.items() if value is not None}
    _check("trace", asked, _trace(answer), connection.address)


def record(connection: Connection, spec: ServerSpec) -> None:
    """Have the server, which is our own, log and trace what ``spec`` asks for.

    Raises:
        EnvironmentFailedError: the server refuses, or does not answer.
    """
    if spec.log_verbose:
        set_log_settings(connection, {"log_verbose_level": spec.log_verbose})
    if spec.trace is not None:
        asked = {
            "trace_level": [spec.trace.level.upper()],
            "trace_rate": [str(spec.trace.rate)],
            "trace_count": [str(spec.trace.count)],
        }
        set_trace_settings(connection, asked)


def _log(answer: Any) -> LogSettings:  # noqa: ANN401 - the client's own message
    found = {
        name: getattr(setting, setting.WhichOneof("parameter_choice") or "bool_param")
        for name, setting in answer.settings.items()
    }
    return dict(sorted(found.items()))


def _trace(answer: Any) -> TraceSettings:  # noqa: ANN401 - the client's own message
    return {name: tuple(setting.value) for name, setting in sorted(answer.settings.items())}


def _check(what: str, asked: Mapping[str, Any], got: Mapping[str, Any], where: str) -> None:
    """Triton answers without an error where it knows no such setting, or not such a value."""
    for name, value in asked.items():
        if got.get(name) != value:
            raise EnvironmentFailedError(
                f"the server does not take the {what} setting {name} {_word(value)}:"
                f" it has {_word(got.get(name, 'none'))}",
                where=where,
            )


def _word(value: Any) -> str:  # noqa: ANN401 - a setting's value
    return ", ".join(value) if isinstance(value, tuple) else str(value)
