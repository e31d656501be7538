"""Locust's ``FastHttpUser`` sending a prepared request as fast as it is answered, until it is ended.

    python benchmarks/fast_http_user.py --url http://127.0.0.1:8000/v2/models/M/infer --body FILE ...

Written as its documentation shows it: the answer's status is looked at, the answer is not.
"""

# Locust patches the standard library for gevent when it is imported, so it comes first.
import locust  # isort: skip
import locust.env  # isort: skip
from locust.contrib.fasthttp import FastHttpUser  # isort: skip

import argparse
from pathlib import Path


def main() -> None:
    """Send until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", type=Path, required=True, help="the request's bytes")
    parser.add_argument("--json-length", type=int, required=True, help="of its JSON part")
    parser.add_argument("--users", type=int, required=True)
    options = parser.parse_args()
    body = options.body.read_bytes()
    headers = {"Inference-Header-Content-Length": str(options.json_length)}
    base, _, path = options.url.partition("/v2/")

    class Sender(FastHttpUser):
        host = base

        @locust.task
        def infer(self) -> None:
            self.client.post(f"/v2/{path}", data=body, headers=headers, name="infer")

    runner = locust.env.Environment(user_classes=[Sender]).create_local_runner()
    runner.start(options.users, spawn_rate=options.users)
    runner.greenlet.join()


if __name__ == "__main__":
    main()
