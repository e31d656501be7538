"""Model configurations as JSON with the proto's names: read from a server, and compared."""

from __future__ import annotations

from typing import Any

__all__ = ["differences", "from_message"]

# What a server may have added although nobody asked for it, and which changes what is measured.
TELLING = ("dynamic_batching", "sequence_batching", "ensemble_scheduling", "response_cache")
WIDE_TYPES = (2, 4)  # FieldDescriptor.CPPTYPE_INT64 and CPPTYPE_UINT64


def from_message(message: Any) -> dict[str, Any]:  # noqa: ANN401 - any protobuf message
    """Turn a protobuf message into JSON: proto names, enums by name, integers as integers.

    Protobuf's own JSON writes 64-bit integers as strings.
    """
    from google.protobuf.json_format import MessageToDict

    return _plain(MessageToDict(message, preserving_proto_field_name=True), message.DESCRIPTOR)


def _plain(value: dict[str, Any], descriptor: Any) -> dict[str, Any]:  # noqa: ANN401
    result: dict[str, Any] = {}
    for name, item in value.items():
        field = descriptor.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            result[name] = {key: _item(entry, inner) for key, entry in item.items()}
        elif isinstance(item, list):
            result[name] = [_item(entry, field) for entry in item]
        else:
            result[name] = _item(item, field)
    return result


def _item(item: Any, field: Any) -> Any:  # noqa: ANN401
    if field.message_type is not None:
        return _plain(item, field.message_type)
    return int(item) if field.cpp_type in WIDE_TYPES else item


def differences(requested: dict[str, Any], effective: dict[str, Any]) -> tuple[str, ...]:
    """Say where the configuration that a server has is not the one that it was given.

    What was asked for must be there, value for value; a value that is left out is the proto's default
    (0, false, empty). What a server fills in beside it does not matter, except for schedulers, a response
    cache, and a batch size or instances that nobody asked for.

    Args:
        requested: configuration as JSON with the proto's names.
        effective: as :func:`from_message` gives it.

    Returns:
        One line a difference, such as ``instance_group[0].count: asked for 2, the server has 1``.
    """
    added = [name for name in TELLING if name in effective and name not in requested]
    return (
        *_compare("", requested, effective),
        *(f"{name}: not asked for, the server has {effective[name]}" for name in added),
    )


def _compare(place: str, requested: Any, effective: Any) -> list[str]:  # noqa: ANN401
    if isinstance(requested, dict) and isinstance(effective, dict):
        prefix = f"{place}." if place else ""
        return [
            line
            for name, value in requested.items()
            for line in _compare(f"{prefix}{name}", value, effective.get(name))
        ]
    if isinstance(requested, list) and isinstance(effective, list):
        if len(requested) == len(effective):
            return [
                line
                for number, (asked, has) in enumerate(zip(requested, effective, strict=True))
                for line in _compare(f"{place}[{number}]", asked, has)
            ]
    elif requested == effective or (effective is None and _is_default(requested)):
        return []
    has = "nothing" if effective is None else effective
    return [f"{place}: asked for {requested}, the server has {has}"]


def _is_default(value: Any) -> bool:  # noqa: ANN401
    """Whether a proto leaves this value out. An empty message is not left out: its presence says much."""
    return value is None or value == [] or (not isinstance(value, dict) and not value)
