"""Benchmarking and load testing for models served by NVIDIA Triton Inference Server.

The folders stand in the order in which the data passes through them: ``models`` trains,
``repository`` exports, ``servers`` serves, ``load`` sends, ``analysis`` analyses, ``report`` draws.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
