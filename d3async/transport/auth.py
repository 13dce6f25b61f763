"""The header that proves who we are, per command: the only room that holds a key in clear."""

from __future__ import annotations

import base64
import json
import re
import time
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, Protocol
from urllib.parse import quote, quote_plus

from d3async.config.credentials import MASK, Credential, CredentialKind, Credentials, Secret, how_to_set
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TOKENS_KEPT = 1_024
_JWT_HEADER = "d3jwt"
_SHORTEST_MASKED = 4
_ESCAPE = re.compile("%[0-9A-F]{2}")
_JWT_START = "eyJ"
_JWT_FORM = rf"\b{_JWT_START}[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"


class AuthSettings(Protocol):
    """What of the settings is needed here."""

    @property
    def credentials(self) -> Credentials:
        """Keys, tokens and signing secrets."""

    @property
    def api_key_header(self) -> str:
        """The header a key travels in."""

    @property
    def jwt_lifetime(self) -> float | None:
        """Seconds a token signed here is good for; None for ever."""


class _Header(str):
    """A header's value that a traceback with locals does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


class Auth:
    """Headers for each command, and the mask that keeps their secrets out of texts.

    *now* gives Unix seconds. A token that ends is signed again at half its life, so that the two clocks may differ by
    the other half. Of signed tokens at most `TOKENS_KEPT` are kept.
    """

    def __init__(self, settings: AuthSettings, *, now: Callable[[], float] = time.time) -> None:
        self._credentials = settings.credentials
        self._key_header = settings.api_key_header
        self._lifetime = settings.jwt_lifetime
        self._now = now
        self._tokens: OrderedDict[tuple[Secret, str, str], tuple[float, Secret]] = OrderedDict()
        self._best: dict[str, Credential] = {}
        self._fixed: dict[str, Mapping[str, str]] = {}
        self._masked = _masker(entry.secret for entry in self._credentials.entries)

    def headers(self, command: str, *, username: str, site: str) -> Mapping[str, str]:
        """The header for one request of *command*; *username* and *site* are the body's own.

        Raises SettingsError, naming the variable that is missing or wrong. Source:
        https://docs.d3security.com/user-docs/16.8/json-web-token-authentication
        """
        header = self._fixed.get(command)
        if header is None:
            credential = self._usable(command)
            if credential.kind is CredentialKind.JWT_SECRET:
                return _header(_JWT_HEADER, self._token(credential, username, site))
            name = self._key_header if credential.kind is CredentialKind.API_KEY else _JWT_HEADER
            header = self._fixed[command] = _header(name, credential.secret)
        return header

    def can(self, command: str) -> bool:
        """Whether there is a usable credential for *command*."""
        credential = self._credentials.best(command)
        return credential is not None and not credential.problem

    def mask(self, text: str) -> str:
        """*text* with every secret of these settings, every token, and their quoted and base64 forms as `***`.

        Mask before cutting a text to length: half a secret is not recognised. Secrets of fewer than four letters are
        left, masking them would eat ordinary words.
        """
        return self._masked(text)

    def _usable(self, command: str) -> Credential:
        credential = self._best.get(command) or self._credentials.best(command)
        if credential is None:
            raise SettingsError(how_to_set(command), code="no_key")
        self._best[command] = credential
        if credential.problem:
            raise SettingsError(credential.problem, code="bad_key")
        return credential

    def _token(self, credential: Credential, username: str, site: str) -> Secret:
        """The kept token for this body, or a new one: D3 wants the claims equal to the body's fields."""
        now = self._now()
        name = (credential.secret, username, site)
        renew_at, token = self._tokens.get(name, (0.0, None))
        if token is None or now >= renew_at:
            claims: dict[str, object] = {"Username": username, "Site": site}
            renew_at = float("inf")
            if self._lifetime is not None:
                claims["exp"] = int(now + self._lifetime)
                renew_at = now + self._lifetime / 2
            token = _sign(claims, credential)
            self._tokens[name] = (renew_at, token)
        self._tokens.move_to_end(name)
        if len(self._tokens) > TOKENS_KEPT:
            self._tokens.popitem(last=False)
        return token

    def __repr__(self) -> str:
        known = ", ".join(f"{entry.command or 'every command'}: {entry.kind}" for entry in self._credentials.entries)
        return f"Auth({known})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled: give the other process its own settings")


def _header(name: str, secret: Secret) -> Mapping[str, str]:
    return MappingProxyType({name: _Header(secret.reveal())})


def _sign(claims: dict[str, object], credential: Credential) -> Secret:
    """An HS256 token. A failure is raised without PyJWT's frames: they hold the secret."""
    from jwt import InvalidKeyError, PyJWS  # noqa: PLC0415 - 80 ms to import, and most users have a plain key
    from jwt.algorithms import HMACAlgorithm  # noqa: PLC0415 - as above

    class AnyLength(HMACAlgorithm):
        """D3 hands out the secret: a warning about its length would reach a user who cannot change it."""

        def check_key_length(self, key: bytes) -> None:  # noqa: ARG002 - PyJWT's signature
            return None

    signer = PyJWS(algorithms=[])
    signer.register_algorithm("HS256", AnyLength(AnyLength.SHA256))
    payload = json.dumps(claims, separators=(",", ":")).encode()
    try:
        return Secret(signer.encode(payload, credential.secret.reveal(), algorithm="HS256"))
    except InvalidKeyError:
        problem = f"{credential.origin}: this is no secret to sign with (a certificate, or a key in another form?)"
    raise SettingsError(problem, code="bad_key")


def _masker(secrets: Iterator[Secret]) -> Callable[[str], str]:
    """A function rather than the pattern itself: the `repr` of a pattern is its text."""
    forms = {form for secret in secrets for form in _forms(secret.reveal())}
    longest_first = sorted((form for form in forms if len(form) >= _SHORTEST_MASKED), key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, longest_first), _JWT_FORM]))
    signs = (*longest_first, _JWT_START)

    def masked(text: str) -> str:
        # twenty times as fast as the pattern, and nearly every answer is free of secrets
        for sign in signs:
            if sign in text:
                return pattern.sub(MASK, text)
        return text

    return masked


def _forms(secret: str) -> Iterator[str]:
    """The spellings in which a secret is met in URLs, JSON, `repr`s and encoded headers."""
    raw = secret.encode("utf-8", "replace")
    yield secret
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted
        yield _ESCAPE.sub(lambda escape: escape[0].lower(), quoted)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
