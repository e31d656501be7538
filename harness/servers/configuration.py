"""Model configurations as a server gives them, turned into JSON with the proto's names."""

from __future__ import annotations

from typing import Any

__all__ = ["from_message"]

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
