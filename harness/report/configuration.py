"""A model configuration as the text of ``config.pbtxt``, to copy from the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["configuration_text"]


def configuration_text(configuration: Mapping[str, Any]) -> str:
    """Write a configuration, a JSON object with the proto's names, in protocol buffer text format.

    A field that this version of Triton's protocol does not know (a run may be years younger than the
    reader) makes it JSON instead, with a line that says so.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    try:
        message = json_format.ParseDict(dict(configuration), model_config_pb2.ModelConfig())
    except json_format.ParseError as error:
        text = json.dumps(configuration, indent=2, sort_keys=True)
        reason = str(error).partition("\n")[0]
        return f"# As JSON: this harness does not know a field of it ({reason}).\n{text}\n"
    written: str = text_format.MessageToString(message, use_short_repeated_primitives=True)
    return written
