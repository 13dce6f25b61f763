"""Keys, tokens and signing secrets as values that are never shown, and which of them a command uses."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, NoReturn

MASK = "***"
LONGEST = 65_536
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Secret:
    """Text that is absent from `repr`, `str`, pickles and error texts; blanks around it are cut.

    `reveal` is for `d3async.transport.auth` and for storing it in the keyring.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret) -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text.lstrip("\ufeff").strip()

    def reveal(self) -> str:
        """Return the text in clear."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (self._text, other.reveal()))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return MASK

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: give the other process its own settings")


class Hidden(Mapping[str, Any]):
    """A mapping whose `repr` shows no value, so that a traceback with locals does not print the environment."""

    __slots__ = ("_inside",)

    def __init__(self, inside: Mapping[str, Any]) -> None:
        self._inside = inside

    def __getitem__(self, name: str) -> Any:
        value = self._inside[name]
        return Hidden(value) if isinstance(value, dict) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._inside)

    def __len__(self) -> int:
        return len(self._inside)

    def __repr__(self) -> str:
        return f"Hidden({len(self)} names)"


class CredentialKind(StrEnum):
    """What a credential is; for one command they are tried in this order."""

    API_KEY = "api_key"
    JWT = "jwt"
    JWT_SECRET = "jwt_secret"  # noqa: S105 - the name of a setting

    @property
    def label(self) -> str:
        """What people call it."""
        return {"api_key": "key", "jwt": "token", "jwt_secret": "JWT secret"}[self]


class Precedence(IntEnum):
    """Where a credential came from, the strongest first."""

    OPTION = 0
    ENVIRONMENT = 1
    PROFILE = 2
    LOGIN = 3


@dataclass(frozen=True, slots=True)
class Credential:
    """One key, token or signing secret. *command* is "" for every command; *problem* says why it cannot be used."""

    kind: CredentialKind
    command: str
    origin: str
    level: Precedence
    secret: Secret
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """All credentials of one D3."""

    entries: tuple[Credential, ...] = ()

    def best(self, command: str) -> Credential | None:
        """The one *command* uses: an option's first, then its own before a general one; key, JWT, JWT secret."""
        fitting = [entry for entry in self.entries if entry.command in {"", plain(command)}]
        return min(fitting, key=_rank, default=None)

    def fingerprint(self, salt: str) -> str:
        """Sixteen letters that tell these credentials from others and do not give them away, nor a weak one of them."""
        seed = "\0".join(sorted(entry.secret.reveal() for entry in self.entries))
        return hashlib.pbkdf2_hmac("sha256", seed.encode("utf-8", "replace"), salt.encode(), 2_000, 8).hex()

    @classmethod
    def of(
        cls,
        *,
        api_key: str | Secret = "",
        jwt: str | Secret = "",
        jwt_secret: str | Secret = "",
        api_keys: Mapping[str, str | Secret] | None = None,
        jwts: Mapping[str, str | Secret] | None = None,
        jwt_secrets: Mapping[str, str | Secret] | None = None,
    ) -> Credentials:
        """Credentials an app brings itself: for every command, and by D3's command name."""
        tables = (
            (CredentialKind.API_KEY, {"": api_key, **(api_keys or {})}),
            (CredentialKind.JWT, {"": jwt, **(jwts or {})}),
            (CredentialKind.JWT_SECRET, {"": jwt_secret, **(jwt_secrets or {})}),
        )
        return cls(
            tuple(
                checked(Credential(kind, plain(command), f"given {kind}", Precedence.OPTION, Secret(text)))
                for kind, table in tables
                for command, text in table.items()
                if text
            )
        )


def checked(credential: Credential) -> Credential:
    """*credential*, with its problem if it cannot be used."""
    flaw = _flaw(credential)
    if not flaw or credential.problem:
        return credential
    problem = f"{credential.origin}: the {credential.kind.label} {flaw}"
    return replace(credential, problem=problem)


def plain(command: str) -> str:
    """*command* as names are compared: `CreateTask`, `CREATE_TASK` and `create-task` are one."""
    return "".join(letter for letter in command if letter not in " _-").casefold()


def upper_snake(command: str) -> str:
    """D3's name as the end of a variable's name: CreateTask gives CREATE_TASK."""
    return _WORD_STARTS.sub("_", command).replace("-", "_").replace(" ", "_").upper()


def variable(kind: CredentialKind, command: str = "") -> str:
    """The environment variable of one credential: `D3_API_KEY_CREATE_TASK`."""
    return "_".join(["D3", kind.upper(), *([upper_snake(command)] if command else [])])


def how_to_set(command: str) -> str:
    """What to do when *command* has no credential."""
    own, general = variable(CredentialKind.API_KEY, command), variable(CredentialKind.API_KEY)
    return (
        f"no key for {command}: set {own} (or {general} for every command, or {own}_FILE), "
        f"give --api-key-file, or type: d3async login --command {command}"
    )


def _rank(entry: Credential) -> tuple[bool, bool, int]:
    return (entry.level is not Precedence.OPTION, entry.command == "", list(CredentialKind).index(entry.kind))


def _flaw(credential: Credential) -> str:
    """What is wrong with the text, never the text; keys and tokens travel in a header, a signing secret does not."""
    text = credential.secret.reveal()
    if not text:
        return "is empty"
    if len(text) >= LONGEST:
        return "is far too long"
    header = credential.kind is not CredentialKind.JWT_SECRET
    bad = [at for at, letter in enumerate(text, 1) if not letter.isprintable() or (header and not letter.isascii())]
    if bad:
        return f"has a character that cannot be part of it (number {bad[0]}): was it copied whole and alone?"
    return ""
