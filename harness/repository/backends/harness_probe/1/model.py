"""Answer zeros after sleeping: a model whose time is known, to measure the instrument with.

The parameter ``sleep_us`` is how long each execution takes, in microseconds; 0 answers at once.
"""

import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Make the empty answer of one example; ``args`` are those of the Python backend."""
        config = json.loads(args["model_config"])
        self.sleep_s = int(config["parameters"]["sleep_us"]["string_value"]) / 1e6
        self.input = config["input"][0]["name"]
        self.batched = config["max_batch_size"] > 0
        self.answers = [
            (
                tensor["name"],
                [max(int(dim), 1) for dim in tensor["dims"]],
                pb_utils.triton_string_to_numpy(tensor["data_type"]),
            )
            for tensor in config["output"]
        ]

    def execute(self, requests):
        """Sleep once, then answer every request with zeros of the right shape."""
        if self.sleep_s:
            time.sleep(self.sleep_s)
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        batch = []
        if self.batched:
            shape = pb_utils.get_input_tensor_by_name(request, self.input).shape()
            batch = [int(shape[0])]
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.full(batch + dims, b"" if kind == np.object_ else 0, kind))
                for name, dims, kind in self.answers
            ]
        )
