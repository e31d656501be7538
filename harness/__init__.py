"""Benchmarking and load testing for models served by NVIDIA Triton Inference Server.

The folders stand in the order in which the data passes through them: ``models`` trains,
``repository`` exports, ``servers`` serves, ``load`` sends, ``analysis`` analyses, ``report`` draws.
"""

import os

__all__ = ["__version__"]

# From 1.29 on ONNX Runtime reports to its maker unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
