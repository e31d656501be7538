"""Y is X, after the time that the parameter ``sleep_us`` says, once for each execution."""

import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def initialize(self, args):
        """Read how long an execution takes, in microseconds."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.sleep_s = int(parameters["sleep_us"]["string_value"]) / 1e6

    def execute(self, requests):
        """Answer every request."""
        time.sleep(self.sleep_s)
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)])
