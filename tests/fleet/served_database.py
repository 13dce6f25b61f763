"""A PostgreSQL for whoever starts this: prints where it is, ends when stdin closes."""

from __future__ import annotations

import json
import sys

from tests.database import running

if __name__ == "__main__":
    with running() as server:
        print(json.dumps({"url": server.database(), "port": server.port}), flush=True)  # noqa: T201 - as said
        sys.stdin.read()
