"""Triton's ``ModelConfig`` message, as a plain JSON object and as the text of ``config.pbtxt``.

The JSON form has the names of the protocol buffer (``instance_group``, ``data_type``, ``KIND_CPU``),
leaves out what is at its default, and writes 64-bit integers as integers. It is what Triton's model
control takes as ``config`` and, integers apart, what its ``get_model_config`` answers.
Source: ``protobuf/model_config.proto`` of triton-inference-server/common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format, text_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2

from harness.errors import UsageError

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

__all__ = ["canonical", "from_text", "to_text"]


def canonical(configuration: dict[str, Any], *, ignore_unknown: bool = False) -> dict[str, Any]:
    """Return the JSON form of ``configuration`` with defaults left out and integers as integers.

    ``max_batch_size`` always stands there: 0 says that the model has no batch dimension.

    Args:
        configuration: a model configuration, 64-bit integers as integers or strings.
        ignore_unknown: leave out fields of a newer Triton instead of refusing them.

    Raises:
        UsageError: a field or value that Triton's model configuration does not know.
    """
    return _from_message(_to_message(configuration, ignore_unknown=ignore_unknown))


def to_text(configuration: dict[str, Any]) -> str:
    """Return ``configuration`` in protocol buffer text format, as it stands in ``config.pbtxt``.

    Raises:
        UsageError: a field or value that Triton's model configuration does not know.
    """
    message = _to_message(configuration, ignore_unknown=False)
    text: str = text_format.MessageToString(message, use_short_repeated_primitives=True)
    return text


def from_text(text: str, *, where: str) -> dict[str, Any]:
    """Return the JSON form of the text of a ``config.pbtxt``; ``where`` names it in errors.

    Raises:
        UsageError: it is not a model configuration.
    """
    message = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UsageError(f"not a Triton model configuration ({error})", where=where) from error
    return _from_message(message)


def _to_message(configuration: dict[str, Any], *, ignore_unknown: bool) -> Message:
    message: Message = model_config_pb2.ModelConfig()
    try:
        json_format.ParseDict(configuration, message, ignore_unknown_fields=ignore_unknown)
    except json_format.ParseError as error:
        name = configuration.get("name", "without a name")
        raise UsageError(
            f"not a Triton model configuration ({error})", where=f"model {name}"
        ) from error
    return message


def _from_message(message: Message) -> dict[str, Any]:
    return {"max_batch_size": 0} | _object(message)


def _object(message: Message) -> dict[str, Any]:
    """The fields that are set, by name."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401 - any field of any message
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        kind = entry.fields_by_name["value"]
        return {str(key): _scalar(kind, value[key]) for key in sorted(value)}
    if isinstance(value, str | bytes | int | float | Message):
        return _scalar(field, value)
    return [_scalar(field, item) for item in value]


def _scalar(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401 - any field of any message
    if field.message_type is not None:
        return _object(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value
