"""No `repr`, traceback, pickle or message shows a secret."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from rich.pretty import pretty_repr

from d3async.config import secret_sources
from d3async.config.credentials import Hidden, Secret
from d3async.config.settings import Settings
from d3async.errors import D3Error, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

CANARY = "canary-7f3a9c51e2"
NEEDED = {"D3_BASE_URL": "https://d3.example.com/ce_site/VSOC", "D3_USERNAME": "svc", "D3_SITE": "Security Operations"}


def from_env(environ: Mapping[str, str], **options: object) -> Settings:
    """Settings of this environment alone, whatever config file the machine has."""
    return Settings.from_env({"D3_CONFIG": os.devnull, **environ}, **options)  # type: ignore[arg-type]


def shown_by(error: BaseException) -> str:
    """All a traceback with locals, a pickle or a log could print of *error*, but for this file's own frames."""
    texts = [str(error), repr(error)]
    if isinstance(error, D3Error):
        texts += [pickle.dumps(error, 0).decode("ascii"), repr(vars(error))]
    chain: list[BaseException | None] = [error]
    for link in chain:
        if link is None:
            continue
        texts += [str(link), repr(link), *_locals(link.__traceback__)]
        chain += [link.__cause__, link.__context__]
    return "\n".join(texts)


def _locals(frames: TracebackType | None) -> Iterator[str]:
    while frames:
        code = frames.tb_frame.f_code
        if code.co_filename != __file__:
            yield from (repr(value) + pretty_repr(value) for value in frames.tb_frame.f_locals.values())
        frames = frames.tb_next


FULL = {
    **NEEDED,
    "D3_API_KEY": CANARY,
    "D3_JWT_CREATE_TASK": CANARY,
    "D3_JWT_SECRET": CANARY,
    "D3_API_KEY_GET_INCIDENTS": CANARY,
}


def test_settings_show_no_secret() -> None:
    settings = from_env(FULL)
    shown = [
        repr(settings),
        str(settings),
        f"{settings!r}",
        pretty_repr(settings),
        repr(settings.credentials),
        pretty_repr(settings.credentials),
        json.dumps(settings.public()),
        repr(dataclasses.asdict(settings)),
        repr(vars(settings)),
        repr(copy.deepcopy(settings)),
        str(settings.origins),
    ]

    assert CANARY not in "".join(shown)


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(from_env(FULL))


def test_a_hidden_mapping_shows_no_value() -> None:
    hidden = Hidden({"a": CANARY, "b": {"c": CANARY}})

    assert CANARY not in repr(hidden) + pretty_repr(hidden) + repr(hidden["b"])


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({"D3_RATE": "x"}, {}),
        ({"D3_BASE_URL": ""}, {}),
        ({"D3_API_KEY": f"{CANARY}\n{CANARY}"}, {}),
        ({"D3_API_KEY_FILE": "/nowhere"}, {}),
        ({"D3_PROFILE": "none"}, {}),
        ({}, {"api_key": f"{CANARY}\x00"}),
        ({}, {"api_keys": {"CreateTask": f"{CANARY}\x00"}}),
        ({}, {"api_key": CANARY, "ratte": 1}),
        ({"D3_BASE_URL": f"https://u:{CANARY}@h/x"}, {}),
        ({"D3_BASE_URL": "https://[::1/x"}, {"jwt_secret": CANARY}),
    ],
)
def test_no_frame_of_a_refusal_shows_a_secret(environ: dict[str, str], options: dict[str, object]) -> None:
    with pytest.raises((SettingsError, TypeError)) as caught:
        from_env({**FULL, **environ}, **options)

    assert CANARY not in shown_by(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f'[profiles.a]\napi_key = "{CANARY}"\nrate = "x"',
        f'[profiles.a]\napi_key = "{CANARY}\\u0000"',
        f'[profiles.a]\napi_kye = "{CANARY}"',
        f'[profiles.a]\napi_key = "{CANARY}',
        f'[profiles.a]\napi_key = "{CANARY}"\n[profiles.a]',
        f'[profiles.b]\napi_key = "{CANARY}"',
        f'[profiles.a]\nkeys = ["{CANARY}"]',
        f'[profiles.a]\napi_key = ["{CANARY}"]',
    ],
)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_no_frame_of_a_refused_config_file_shows_a_secret(tmp_path: Path, text: str, mode: int) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        from_env(NEEDED, config=path, profile="a", needs=["CreateTask"])

    assert CANARY not in shown_by(caught.value)


@pytest.mark.usefixtures("broken_keyring")
def test_no_frame_of_a_failing_keyring_shows_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as stored:
        secret_sources.store_in_keyring("e", Secret(CANARY), tmp_path)
    with pytest.raises(SettingsError) as fetched:
        secret_sources.fetch_from_keyring("e")

    assert CANARY not in shown_by(stored.value) + shown_by(fetched.value)


def test_importing_the_settings_loads_neither_aiohttp_nor_pydantic_nor_keyring_nor_jwt() -> None:
    heavy = "{'aiohttp', 'pydantic', 'keyring', 'jwt', 'click'}"
    code = f"import sys, d3async.config, d3async.transport.auth; assert not {heavy} & set(sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
