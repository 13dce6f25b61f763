"""One limit for many processes: of one user on one host through a file, of many hosts through PostgreSQL."""

from __future__ import annotations

from d3async.shared_limit.opening import limit_database, shared_limit
from d3async.shared_limit.share import Share

__all__ = ["Share", "limit_database", "shared_limit"]
