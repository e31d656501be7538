"""What each backend reads, and what it cannot do."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.repository.formats import check_format, image_note
from harness.repository.options import ServingOptions


def tensorflow(image: str | None) -> ServingOptions:
    return ServingOptions(backend="tensorflow", image=image)


@pytest.mark.parametrize(
    "image", [None, "25.02", "25.02-py3", "24.12-py3-min", "nvcr.io/nvidia/tritonserver:23.05-py3"]
)
def test_tensorflow_is_in_images_up_to_25_02(image: str | None) -> None:
    check_format(tensorflow(image), "float32", {"TYPE_FP32"})


@pytest.mark.parametrize(
    "image", ["25.03", "25.03-py3", "26.01-py3", "nvcr.io/nvidia/tritonserver:25.10-py3"]
)
def test_a_newer_image_is_refused_with_the_reason(image: str) -> None:
    with pytest.raises(UsageError, match=r"no TensorFlow backend: 25\.02 was the last"):
        check_format(tensorflow(image), "float32", {"TYPE_FP32"})


@pytest.mark.parametrize("image", ["", "latest", "2.55.0", "25.2", "25.02py3", "125.02"])
def test_what_is_no_tag_is_refused(image: str) -> None:
    with pytest.raises(UsageError, match="is not the tag of a Triton image"):
        check_format(tensorflow(image), "float32", {"TYPE_FP32"})


@pytest.mark.parametrize(
    ("backend", "opset", "ir_version", "warned"),
    [
        ("onnxruntime", 21, 10, False),
        ("onnxruntime", 22, 10, True),
        ("openvino", 17, 11, True),
        ("python", 23, 12, False),
    ],
)
def test_what_older_images_cannot_read_is_said(
    backend: str, opset: int, ir_version: int, *, warned: bool
) -> None:
    options = ServingOptions.model_validate({"backend": backend})
    assert (image_note(options, opset, ir_version) is not None) == warned


def test_the_last_images_with_tensorflow_are_said_unless_one_is_named() -> None:
    unnamed = ServingOptions(backend="tensorflow")
    assert "images up to 25.02" in str(image_note(unnamed, 17, 8))
    assert image_note(unnamed.model_copy(update={"image": "25.02-py3"}), 17, 8) is None
