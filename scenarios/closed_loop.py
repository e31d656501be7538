r"""A closed loop by hand: every user sends its next request as soon as it has its answer.

    locust -f scenarios/closed_loop.py --host http://127.0.0.1:8000                  # web interface
    locust -f scenarios/closed_loop.py --host http://127.0.0.1:8000 --headless \
        --users 8 --spawn-rate 8 --run-time 30s --run-dir reports/by-hand            # without one
    harness report reports/by-hand

Every number of users is a load level of its own. Locust's table is rounded; the figures of each level
stand in its log, and in the report. Its options beside Locust's own, which the other Locust files here
take, too (Locust does not list them with ``--help``):

    --model NAME            the model [cnn]
    --batch-size N          inferences in one request [1]
    --protocol http|grpc    [http]
    --grpc-host HOST:PORT   the gRPC endpoint [that of --host, port 8001]
    --reference FILE        reference.npz of the exported model: its inputs are sent, and every answer is
                            held against the right one [random inputs]
    --tolerance X           how far a value may lie from the reference [0.0001]
    --request-timeout S     seconds after which a request has failed [30]
    --run-dir DIR           new folder for a run that `harness report` reads [none]
    --seed N                seeds every random choice [7]
"""

from __future__ import annotations

from harness.load.byhand.users import ClosedLoopUser, install

install("closed_loop")


class TritonUser(ClosedLoopUser):
    """A user of a model."""
