"""How D3 is reached, and whom TLS trusts on the way."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Network:
    """How D3 is reached. Times in seconds; *ca_bundle* is trusted beside the system's authorities."""

    base_url: str
    timeout: float = 60.0
    concurrency: int = 32
    ca_bundle: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


def tls(network: Network) -> ssl.SSLContext:
    """TLS 1.2 or newer, the system's authorities and the given ones, the client's certificate if there is one.

    Raises `SettingsError` when a file cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if network.ca_bundle:
            context.load_verify_locations(cafile=network.ca_bundle)
        if network.client_cert:
            context.load_cert_chain(network.client_cert, network.client_key)
    except (OSError, ssl.SSLError) as error:
        message = f"D3_CA_BUNDLE, D3_CLIENT_CERT or D3_CLIENT_KEY cannot be used: {error}"
        raise SettingsError(message, code="tls_files") from error
    return context
