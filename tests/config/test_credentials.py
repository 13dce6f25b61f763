"""Which key a command uses, and where keys are found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from d3async.config.credentials import CredentialKind, Credentials, Secret, plain, upper_snake, variable
from d3async.config.settings import Settings
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CANARY = "canary-7f3a9c51e2"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/ce_site/VSOC", "D3_USERNAME": "svc", "D3_SITE": "Security Operations"}


def from_env(environ: Mapping[str, str], **options: object) -> Settings:
    """Settings of this environment alone, whatever config file the machine has."""
    return Settings.from_env({"D3_CONFIG": os.devnull, **environ}, **options)  # type: ignore[arg-type]


def refusal(environ: Mapping[str, str], **options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        from_env(environ, **options)
    return caught.value.message


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("CreateTask", "CREATE_TASK"),
        ("RemoveLinkedIncidents", "REMOVE_LINKED_INCIDENTS"),
        ("GetIncidents", "GET_INCIDENTS"),
        ("getD3Log", "GET_D3_LOG"),
        ("SetIncidentFieldHTML", "SET_INCIDENT_FIELD_HTML"),
        ("create-task", "CREATE_TASK"),
        ("CREATE_TASK", "CREATE_TASK"),
    ],
)
def test_the_variable_of_a_command_is_its_name_in_upper_snake(command: str, expected: str) -> None:
    assert upper_snake(command) == expected
    assert variable(CredentialKind.JWT_SECRET, command) == f"D3_JWT_SECRET_{expected}"
    assert plain(upper_snake(command)) == plain(command)


@pytest.mark.parametrize(
    ("environ", "command", "expected"),
    [
        ({"D3_API_KEY": "k"}, "CreateTask", (CredentialKind.API_KEY, "k")),
        ({"D3_API_KEY": " k \n"}, "CreateTask", (CredentialKind.API_KEY, "k")),
        ({"D3_API_KEY": "\ufeffk"}, "CreateTask", (CredentialKind.API_KEY, "k")),
        ({"D3_API_KEY": "k", "D3_API_KEY_CREATE_TASK": "own"}, "CreateTask", (CredentialKind.API_KEY, "own")),
        ({"D3_API_KEY": "k", "D3_API_KEY_CREATE_TASK": "own"}, "GetIncidents", (CredentialKind.API_KEY, "k")),
        ({"D3_API_KEY_CREATETASK": "own"}, "CreateTask", (CredentialKind.API_KEY, "own")),
        ({"D3_API_KEY": "k", "D3_JWT_CREATE_TASK": "t"}, "CreateTask", (CredentialKind.JWT, "t")),
        ({"D3_API_KEY": "k", "D3_JWT_SECRET_CREATE_TASK": "s"}, "CreateTask", (CredentialKind.JWT_SECRET, "s")),
        ({"D3_JWT_CREATE_TASK": "t", "D3_JWT_SECRET_CREATE_TASK": "s"}, "CreateTask", (CredentialKind.JWT, "t")),
        ({"D3_API_KEY_CREATE_TASK": "k", "D3_JWT_CREATE_TASK": "t"}, "CreateTask", (CredentialKind.API_KEY, "k")),
        ({"D3_JWT": "t", "D3_JWT_SECRET": "s"}, "CreateTask", (CredentialKind.JWT, "t")),
        ({"D3_API_KEY": "k", "D3_JWT": "t", "D3_JWT_SECRET": "s"}, "CreateTask", (CredentialKind.API_KEY, "k")),
        ({"D3_JWT_SECRET": "s"}, "CreateTask", (CredentialKind.JWT_SECRET, "s")),
        ({"D3_API_KEY_GET_D3_LOG": "k"}, "getD3Log", (CredentialKind.API_KEY, "k")),
        ({"D3_API_KEY_IOCS_EXTRACTION": "k"}, "IOCsExtraction", (CredentialKind.API_KEY, "k")),
        ({"D3_API_KEY_CREATE_TASK": "k"}, "GetIncidents", None),
        ({"D3_API_KEY": ""}, "CreateTask", None),
        ({"D3_API_KEY": "  "}, "CreateTask", None),
        ({"D3_API_KEY_HEADER": "x-key"}, "Header", None),
        ({"D3_JWT_LIFETIME": "60"}, "Lifetime", None),
    ],
)
def test_a_command_uses_its_own_credential_before_a_general_one_and_a_key_before_a_token(
    environ: dict[str, str], command: str, expected: tuple[CredentialKind, str] | None
) -> None:
    best = from_env({**NEEDED, **environ}).credentials.best(command)

    assert (best and (best.kind, best.secret.reveal())) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("D3_API_KEY", f"{CANARY}\nX-Evil: 1"),
        ("D3_API_KEY", f"{CANARY}\x00"),
        ("D3_API_KEY_CREATE_TASK", f"\u201c{CANARY}\u201d"),
        ("D3_API_KEY", f"{CANARY}é"),
        ("D3_JWT", f"{CANARY}\x7f"),
        ("D3_JWT_SECRET", f"{CANARY}\r\n{CANARY}"),
    ],
)
def test_a_key_that_cannot_be_a_header_is_refused_without_being_shown(name: str, text: str) -> None:
    message = refusal({**NEEDED, name: text})

    assert name in message
    assert CANARY not in message


@pytest.mark.parametrize("name", ["D3_APIKEY", "D3_KEY", "D3_API_KEYS"])
def test_a_slip_in_the_name_of_the_key_is_seen(name: str) -> None:
    message = refusal({**NEEDED, name: CANARY}, needs=["CreateTask"])

    assert f"{name} is set; was D3_API_KEY meant?" in message
    assert CANARY not in message


def test_a_signing_secret_is_never_a_header_and_may_have_any_letters() -> None:
    assert from_env({**NEEDED, "D3_JWT_SECRET": "größe"}).credentials.best("CreateTask").problem == ""


def test_a_file_variable_holds_the_path_and_the_trailing_newline_is_cut(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{CANARY}\n")

    for name in ("D3_API_KEY_CREATE_TASK_FILE", "D3_API_KEY_FILE", "D3_JWT_FILE", "D3_JWT_SECRET_CREATE_TASK_FILE"):
        best = from_env({**NEEDED, name: str(tmp_path / "key")}).credentials.best("CreateTask")
        assert best
        assert best.secret == Secret(CANARY)
        assert best.origin == f"environment {name}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"two\nlines", "number 4"),
        (b"\xff\xfe\x00k", "number 1"),
        (b"x" * 70_000, "too long"),
    ],
)
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    message = refusal({**NEEDED, "D3_API_KEY_FILE": str(tmp_path / "key")})

    assert "D3_API_KEY_FILE" in message
    assert said in message


@pytest.mark.parametrize("name", ["~nobody-of-this-name/key", "a\\u0000b", "."])
def test_a_file_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.toml").write_text(f'[profiles.a]\napi_key_file = "{name}"\n')

    message = refusal(NEEDED, config=tmp_path / "config.toml", profile="a", needs=["CreateTask"])

    assert "cannot be read" in message


def test_a_key_and_its_file_at_once_are_refused() -> None:
    assert "say the same thing" in refusal({**NEEDED, "D3_API_KEY": "a", "D3_API_KEY_FILE": "/x"})


def test_a_key_file_given_as_an_option_is_used_for_every_command(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-option\n")

    settings = from_env({**NEEDED, "D3_API_KEY_CREATE_TASK": "own"}, api_key_file=tmp_path / "key")

    assert settings.credentials.best("CreateTask").secret.reveal() == "from-option"


def test_an_app_can_bring_its_own_credentials() -> None:
    credentials = Credentials.of(api_key="general", api_keys={"CreateTask": "own"}, jwt_secrets={"GetIncidents": "s"})

    chosen = [credentials.best(name).secret.reveal() for name in ("CreateTask", "getincidents", "Other")]

    assert chosen == ["own", "s", "general"]
    assert from_env(NEEDED, api_keys={"CreateTask": CANARY}).credentials.best("CreateTask").secret == Secret(CANARY)


def test_a_profile_refers_to_variables_and_files(config: Path) -> None:
    environ = {"D3_CONFIG": str(config), "VSOC_CREATE": "create-from-env"}

    credentials = Settings.from_env(environ, needs=["CreateTask", "RemoveLinkedIncidents"]).credentials

    assert credentials.best("CreateTask").secret.reveal() == "create-from-env"
    assert credentials.best("RemoveLinkedIncidents").secret.reveal() == "remove-from-file"


def test_a_profile_may_speak_of_keys_that_are_not_here_until_they_are_needed(config: Path) -> None:
    environ = {"D3_CONFIG": str(config)}

    assert "VSOC_KEY is not set" in Settings.from_env(environ).credentials.best("GetIncidents").problem
    assert "VSOC_CREATE is not set" in refusal(environ, needs=["CreateTask"])


def test_the_environment_overrides_a_profiles_key_for_the_same_command(config: Path) -> None:
    environ = {"D3_CONFIG": str(config), "D3_API_KEY_CREATE_TASK": "env"}

    assert Settings.from_env(environ, needs=["CreateTask"]).credentials.best("CreateTask").secret.reveal() == "env"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize(
    ("mode", "text", "fine"),
    [
        (0o600, f'api_key = "{CANARY}"', True),
        (0o400, f'api_key = "{CANARY}"', True),
        (0o640, f'api_key = "{CANARY}"', False),
        (0o604, f'jwt_secret = "{CANARY}"', False),
        (0o620, f'jwt = "{CANARY}"', False),
        (0o644, f'keys.CreateTask = "{CANARY}"', False),
        (0o644, 'api_key_env = "X"', True),
    ],
)
def test_a_secret_in_the_config_file_is_accepted_only_where_nobody_else_may_read_it(
    tmp_path: Path, mode: int, text: str, fine: bool
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[profiles.a]\n{text}\n")
    path.chmod(mode)

    if fine:
        assert from_env({**NEEDED, "D3_PROFILE": "a"}, config=path).profile == "a"
    else:
        message = refusal({**NEEDED, "D3_PROFILE": "a"}, config=path)
        assert f"chmod 600 {path}" in message
        assert CANARY not in message
