"""Requests prepared once and sent many times, encoded by ``tritonclient``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.load.examples import Case, Tensor
    from harness.load.target import Target

__all__ = ["grpc_request", "grpc_tensors", "http_request", "http_tensors"]


def http_tensors(case: Case, *, binary: bool = True) -> tuple[list[Any], list[Any]]:
    """The case's inputs and requested outputs as ``tritonclient.http`` takes them.

    Args:
        case: the request.
        binary: tensors as bytes, both ways; else as JSON.
    """
    inputs = []
    for tensor, array in case.inputs:
        values, shape = _sendable(tensor, array)
        inputs.append(tritonclient.http.InferInput(tensor.name, shape, tensor.datatype))
        inputs[-1].set_data_from_numpy(values, binary_data=binary)
    outputs = [
        tritonclient.http.InferRequestedOutput(output.name, binary_data=binary)
        for output in case.expectation.outputs
    ]
    return inputs, outputs


def http_request(case: Case, target: Target) -> bytes:
    """A whole HTTP/1.1 request: the head, the JSON header and the tensors' bytes."""
    inputs, outputs = http_tensors(case, binary=target.binary)
    client = tritonclient.http.InferenceServerClient
    body, json_size = client.generate_request_body(inputs, outputs=outputs)
    lines = [
        f"POST /v2/models/{quote(target.model)}/infer HTTP/1.1",
        f"Host: {target.http}",
        f"Content-Type: application/{'octet-stream' if target.binary else 'json'}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in target.access.header_values().items()]
    if json_size is not None:
        lines.append(f"Inference-Header-Content-Length: {json_size}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(body)


def grpc_tensors(case: Case) -> tuple[list[Any], list[Any]]:
    """The case's inputs and requested outputs as ``tritonclient.grpc`` takes them."""
    inputs = []
    for tensor, array in case.inputs:
        values, shape = _sendable(tensor, array)
        inputs.append(tritonclient.grpc.InferInput(tensor.name, shape, tensor.datatype))
        inputs[-1].set_data_from_numpy(values)
    outputs = [
        tritonclient.grpc.InferRequestedOutput(output.name) for output in case.expectation.outputs
    ]
    return inputs, outputs


def grpc_request(case: Case, target: Target) -> bytes:
    """A serialised ``inference.ModelInferRequest``."""
    inputs, outputs = grpc_tensors(case)
    request = service_pb2.ModelInferRequest(model_name=target.model)
    for tensor in inputs:
        request.inputs.append(tensor._get_tensor())  # noqa: SLF001 - its encoder has no public name
        request.raw_input_contents.append(tensor._get_content())  # noqa: SLF001 - likewise
    request.outputs.extend(output._get_tensor() for output in outputs)  # noqa: SLF001 - likewise
    return bytes(request.SerializeToString())


def _sendable(tensor: Tensor, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[int]]:
    values = array.astype(np.object_) if tensor.datatype == "BYTES" else array
    return values, list(array.shape)
