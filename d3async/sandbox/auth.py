"""Who may call which command: a key in a header, or a token the caller signed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jwt

ANY = "*"
"""In a mapping of keys: this key opens every command."""

DEFAULT_KEYS = {
    ANY: "sandbox-key",
    "CreateTask": "sandbox-key-create-task",
    "RemoveLinkedIncidents": "sandbox-key-remove-linked-incidents",
    "GetIncidents": "sandbox-key-get-incidents",
    "GetLinkedIncidentsOfAnIncident": "sandbox-key-get-linked-incidents",
    "GetIncidentCommandCenterLogs": "sandbox-key-get-logs",
}
DEFAULT_SECRETS = {ANY: "sandbox-secret-of-at-least-32-bytes"}
JWT_HEADER = "d3jwt"


@dataclass(frozen=True, slots=True)
class Access:
    """Keys and HS256 secrets, each by command name or `*`; *header* carries the key."""

    keys: Mapping[str, str] = field(default_factory=DEFAULT_KEYS.copy, repr=False)
    secrets: Mapping[str, str] = field(default_factory=DEFAULT_SECRETS.copy, repr=False)
    header: str = "d3key"

    def allows(self, command: str, headers: Mapping[str, str], body: object) -> bool:
        """Tell whether the request may run *command*; a token's claims must equal the body's values."""
        key = headers.get(self.header)
        if key is not None:
            return key in _of(self.keys, command)
        token = headers.get(JWT_HEADER)
        return token is not None and any(_holds(token, secret, body) for secret in _of(self.secrets, command))


def _of(named: Mapping[str, str], command: str) -> list[str]:
    return [named[name] for name in (command, ANY) if name in named]


def _holds(token: str, secret: str, body: object) -> bool:
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return False
    if not isinstance(body, dict):
        return False
    return all(isinstance(body.get(name), str) and claims.get(name) == body[name] for name in ("Username", "Site"))
