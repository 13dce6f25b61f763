"""The only room that speaks aiohttp: one `ApiRequest` out, an `ApiResponse` or what is known of the failure back."""

from d3async.transport.failures import broken
from d3async.transport.reading import MAX_ANSWER
from d3async.transport.sending import Transport

__all__ = ["MAX_ANSWER", "Transport", "broken"]
