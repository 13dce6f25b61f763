"""Rules of the credentials' header: which one travels, how tokens are signed and renewed, what is masked."""

from __future__ import annotations

import base64
import pickle
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from d3async.config.credentials import Credentials
from d3async.config.settings import Settings
from d3async.errors import SettingsError
from d3async.transport.auth import TOKENS_KEPT, Auth

if TYPE_CHECKING:
    from collections.abc import Mapping

CANARY = "canary-7f3a9c51e2-b84d"
SECRET = "signing-secret-of-forty-letters-or-so-00"


class Clock:
    """Unix seconds that stand still until told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def auth(clock: Clock | None = None, *, lifetime: float | None = None, header: str = "d3key", **given: object) -> Auth:
    settings = Settings(
        base_url="https://d3.example.com/x",
        username="svc",
        site="SOC",
        api_key_header=header,
        jwt_lifetime=lifetime,
        credentials=Credentials.of(**given),  # type: ignore[arg-type]
    )
    return Auth(settings, now=clock or Clock())


def headers(of: Auth, command: str = "CreateTask", username: str = "svc", site: str = "SOC") -> Mapping[str, str]:
    return of.headers(command, username=username, site=site)


def claims(of: Auth, **body: str) -> dict[str, object]:
    """What the token says, without judging it: D3 judges `exp`."""
    token = headers(of, **body)["d3jwt"]
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    return jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})


@pytest.mark.parametrize(
    ("given", "header", "expected"),
    [
        ({"api_key": "k-general"}, "d3key", {"d3key": "k-general"}),
        ({"api_key": "k-general"}, "X-Gateway-Key", {"X-Gateway-Key": "k-general"}),
        ({"api_key": "k-general", "api_keys": {"CreateTask": "k-own"}}, "d3key", {"d3key": "k-own"}),
        ({"jwt": "a.b.c"}, "X-Gateway-Key", {"d3jwt": "a.b.c"}),
        ({"api_key": "k-general", "jwts": {"CreateTask": "a.b.c"}}, "d3key", {"d3jwt": "a.b.c"}),
    ],
)
def test_a_key_travels_in_the_key_header_and_a_token_in_d3jwt(
    given: dict[str, object], header: str, expected: dict[str, str]
) -> None:
    assert headers(auth(header=header, **given)) == expected


def test_a_command_without_a_credential_is_told_the_variables() -> None:
    with pytest.raises(SettingsError, match=r"D3_API_KEY_GET_INCIDENTS.*D3_API_KEY for every"):
        headers(auth(api_keys={"CreateTask": "k"}), "GetIncidents")


def test_a_credential_that_cannot_be_used_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="character") as caught:
        headers(auth(api_key=f"{CANARY}\r\nX-Evil: 1"))

    assert CANARY not in caught.value.message


@pytest.mark.parametrize(
    ("given", "command", "expected"),
    [
        ({"api_key": "k"}, "CreateTask", True),
        ({"api_keys": {"create-task": "k"}}, "CreateTask", True),
        ({"jwt_secret": "s"}, "CreateTask", True),
        ({"api_keys": {"CreateTask": "k"}}, "GetIncidents", False),
        ({"api_key": "k\nk"}, "CreateTask", False),
        ({"api_key": "k", "api_keys": {"CreateTask": "k\nk"}}, "CreateTask", False),
        ({}, "CreateTask", False),
    ],
)
def test_a_command_can_be_called_when_its_credential_is_usable(
    given: dict[str, object], command: str, *, expected: bool
) -> None:
    assert auth(**given).can(command) is expected


def test_a_signed_token_claims_what_the_body_says_and_no_more() -> None:
    assert claims(auth(jwt_secret=SECRET), username="Admin", site="Sécurité") == {
        "Username": "Admin",
        "Site": "Sécurité",
    }


def test_a_rows_own_username_or_site_gets_its_own_token() -> None:
    signer = auth(jwt_secret=SECRET)
    tokens = {
        headers(signer, username=username, site=site)["d3jwt"]
        for username, site in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")]
    }

    assert len(tokens) == 3


def test_each_command_signs_with_its_own_secret() -> None:
    signer = auth(jwt_secrets={"CreateTask": SECRET, "GetIncidents": "another-secret"})

    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(headers(signer, "GetIncidents")["d3jwt"], SECRET, algorithms=["HS256"])


def test_a_short_secret_signs_without_a_warning() -> None:
    """D3 hands the secret out; the suite turns warnings into errors."""
    assert headers(auth(jwt_secret="short"))["d3jwt"].count(".") == 2


def test_a_secret_that_is_a_certificate_is_refused_in_our_words() -> None:
    pem = "-----BEGIN PUBLIC KEY----- canary -----END PUBLIC KEY-----"
    with pytest.raises(SettingsError, match="no secret to sign with") as caught:
        headers(auth(jwt_secret=pem))

    assert caught.value.__context__ is None


def test_a_token_ends_after_its_lifetime() -> None:
    assert claims(auth(Clock(1_800_000_000.9), lifetime=600, jwt_secret=SECRET))["exp"] == 1_800_000_600


@pytest.mark.parametrize(("later", "renewed"), [(0, False), (299, False), (300, True), (599, True), (86_400, True)])
def test_a_token_is_renewed_at_half_its_life_so_that_clocks_may_differ(later: float, *, renewed: bool) -> None:
    clock = Clock()
    signer = auth(clock, lifetime=600, jwt_secret=SECRET)
    before = headers(signer)["d3jwt"]

    clock.now += later

    assert (headers(signer)["d3jwt"] != before) is renewed


def test_a_clock_set_back_keeps_the_token() -> None:
    clock = Clock()
    signer = auth(clock, lifetime=600, jwt_secret=SECRET)
    before = headers(signer)["d3jwt"]

    clock.now -= 3600

    assert headers(signer)["d3jwt"] == before


@given(st.lists(st.integers(0, 2_000), min_size=1, max_size=30))
def test_a_token_handed_out_always_has_half_its_life_left(steps: list[int]) -> None:
    clock = Clock()
    signer = auth(clock, lifetime=600, jwt_secret=SECRET)
    for step in steps:
        clock.now += step
        end = claims(signer)["exp"]
        assert isinstance(end, int)
        assert 300 <= end - clock.now <= 600


def test_only_so_many_tokens_are_kept() -> None:
    signer = auth(jwt_secret=SECRET)
    for number in range(TOKENS_KEPT + 10):
        headers(signer, username=f"user-{number}")

    assert len(signer._tokens) == TOKENS_KEPT


# Masking


@pytest.mark.parametrize(
    "form",
    [
        lambda key: key,
        lambda key: f"d3key: {key}\r\n",
        lambda key: f"https://h/x?key={quote(key)}&y=1",
        lambda key: f"https://h/x?key={quote(key, safe='')}",
        lambda key: repr({"d3key": key}),
        lambda key: repr(key.encode()),
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
        lambda key: f'{{"key": "{key.replace(chr(34), chr(92) + chr(34))}"}}',
    ],
)
@pytest.mark.parametrize("key", [CANARY, "with/slash+plus=and&amp", 'with"quote', "with'apostrophe", "with%41percent"])
def test_a_key_is_masked_in_each_form_it_is_met_in(form: object, key: str) -> None:
    text = form(key)  # type: ignore[operator]

    masked = auth(api_key=key).mask(f"before {text} after")

    assert key not in masked
    assert "***" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert base64.b64encode(key.encode()).decode().rstrip("=") not in masked


def test_every_secret_and_every_token_is_masked() -> None:
    keeper = auth(
        api_key="general-key", api_keys={"A": "a-key-of-its-own"}, jwts={"B": "x.y.z-token"}, jwt_secret=SECRET
    )
    token = headers(auth(jwt_secret=SECRET))["d3jwt"]

    masked = keeper.mask(f"general-key a-key-of-its-own x.y.z-token {SECRET} {token} {token}")

    assert masked == "*** *** *** *** *** ***"


def test_a_key_that_is_part_of_another_does_not_uncover_it() -> None:
    assert auth(api_key="abcdef", api_keys={"A": "abcdef-and-more"}).mask("abcdef-and-more") == "***"


def test_other_words_stay() -> None:
    text = "HTTP 401 from d3.example.com: Invalid authentication key. eyJ is no token"

    assert auth(api_key=CANARY).mask(text) == text
    assert auth().mask(text) == text
    assert auth(api_key="key").mask(text) == text


@pytest.mark.parametrize("text", ["caf\udce9-key", "\ud800\ud800\ud800\ud800", "\x00\x01\x02\x03"])
def test_bytes_that_are_no_text_are_refused_and_masked(text: str) -> None:
    """An environment variable that is no UTF-8 arrives with lone surrogates."""
    keeper = auth(api_key=text)

    assert not keeper.can("CreateTask")
    assert keeper.mask(f"<{text}>") == "<***>"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=4), st.text(), st.text())
def test_no_text_keeps_the_key(key: str, before: str, after: str) -> None:
    kept = auth(api_key=key).mask(before + key + after).replace("***", "")

    assert key not in kept or key in before + after or key in "***"


# Nothing shows a secret


def test_auth_shows_no_secret() -> None:
    keeper = auth(api_key=CANARY, jwt_secrets={"CreateTask": CANARY})
    shown = repr(keeper) + str(keeper) + pretty_repr(keeper) + repr(headers(keeper)) + pretty_repr(headers(keeper))

    assert CANARY not in shown + pretty_repr(vars(keeper))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(keeper)


def test_a_header_is_clear_on_the_wire_and_masked_in_a_traceback() -> None:
    value = headers(auth(api_key=CANARY))["d3key"]

    assert f"{value}" == str(value) == CANARY
    assert type(str(value)) is str
    assert repr(value) == "'***'"


@pytest.mark.parametrize("given", [{"jwt_secret": f"-----BEGIN PUBLIC KEY----- {CANARY} -----END PUBLIC KEY-----"}, {}])
def test_no_frame_of_a_refusal_shows_a_secret(given: dict[str, str]) -> None:
    keeper = auth(api_keys={"Other": CANARY}, **given)
    with pytest.raises(SettingsError) as caught:
        headers(keeper)

    frames = caught.value.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    told = traceback.TracebackException(type(caught.value), caught.value, frames, capture_locals=True)
    assert CANARY not in "".join(told.format())
