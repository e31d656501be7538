"""Y is 0, at once and without a look at X: what is measured is everything but the model."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def initialize(self, _args):
        """Make the answers once, by batch size."""
        self.zeros = np.zeros((64, 1), np.float32)

    def execute(self, requests):
        """Answer every request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        (batch, _) = pb_utils.get_input_tensor_by_name(request, "X").shape()
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", self.zeros[:batch])])
