"""Keras on TensorFlow, loaded once, quietly and reproducibly."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.errors import EnvironmentFailedError
from harness.interrupt import heed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KerasModule", "KerasObject", "load_keras", "quiet", "require", "seeded_keras"]

# Keras and TensorFlow ship no types.
KerasModule: TypeAlias = Any
KerasObject: TypeAlias = Any

REMEDY = "Install what makes models with: pip install 'triton-harness[train]'"


def require(*modules: str) -> None:
    """Say in one sentence which library of the extra ``train`` is missing, if one is.

    Raises:
        EnvironmentFailedError: one of ``modules`` cannot be imported.
    """
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            title = {"sklearn": "scikit-learn", "PIL": "Pillow", "tensorflow": "TensorFlow"}
            raise EnvironmentFailedError(
                f"{title.get(name, name)} is not installed", remedy=REMEDY
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what native code writes to standard error away from the terminal, unless it fails.

    TensorFlow writes to file descriptor 2 before it reads its own log level.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception:
            log.seek(0)
            os.write(saved, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def load_keras() -> KerasModule:
    """Import Keras on TensorFlow without a word on the terminal.

    Raises:
        EnvironmentFailedError: TensorFlow is missing.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with quiet():
        require("tensorflow", "keras", "tf2onnx")
        import keras
        import tensorflow as tf
        import tf2onnx  # type: ignore[import-untyped]

        tf.get_logger().setLevel("ERROR")
        tf2onnx.logging.set_level(tf2onnx.logging.ERROR)
    return keras


def seeded_keras(seed: int) -> KerasModule:
    """Keras in a state that depends on ``seed`` alone: the same seed trains the same weights.

    Operations are made deterministic, which costs about a third of the training speed on a CPU.
    """
    keras = load_keras()
    import tensorflow as tf

    keras.backend.clear_session()
    heed()  # most of the line above is collecting garbage, where Python drops an interrupt
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return keras
