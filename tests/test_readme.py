"""What the README says can be typed, can be typed."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest

import d3async
from d3async.cli.main import ABOUT, cli
from d3async.sandbox import serve

README = Path(__file__).parents[1].joinpath("README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def subcommand(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", sorted(ABOUT))
def test_every_command_is_in_the_readme_and_has_help(name: str) -> None:
    command = subcommand(name)

    assert f"`d3async {name}" in README or f"`{name}`" in README
    assert command.get_help(click.Context(command, info_name=name))


def test_every_option_the_readme_names_exists_somewhere() -> None:
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", README)) - {"--help"}
    known = {
        option for name in ABOUT for param in subcommand(name).params for option in (*param.opts, *param.secondary_opts)
    }
    tools = {"--halt"}

    assert named - known - tools == set()


def test_no_option_takes_a_secret_as_its_value() -> None:
    for name in ABOUT:
        for param in subcommand(name).params:
            for option in param.opts:
                secret = re.search(r"key|jwt|secret|token|password", option)
                harmless = option.endswith(("-file", "-header", "-lifetime")) or option in {"--client-key", "--kind"}
                assert not secret or harmless, option


def test_the_library_example_runs_as_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = next(block for block in blocks("python") if "D3Client(Settings.from_env())" in block)

    async def main() -> None:
        async with serve(links=[("20231025-130", "20210127-197")]) as url:
            for name, value in {**url.env, "D3_CONFIG": "/dev/null"}.items():
                monkeypatch.setenv(name, value)
            code = compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            names: dict[str, Any] = {}
            done = eval(code, names)
            if inspect.isawaitable(done):
                await done
            assert names["task"].name == "Call the user"
            assert names["links"].removed == ["20210127-197"]

    asyncio.run(main())
    assert "20210127-197" in capsys.readouterr().out


def test_the_run_of_the_library_runs_as_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    example = next(block for block in blocks("python") if "d3.run(jobs" in block)

    async def main() -> int:
        async with serve(rate=None) as url:
            for name, value in {**url.env, "D3_CONFIG": "/dev/null", "D3_RATE": "2000"}.items():
                monkeypatch.setenv(name, value)
            code = compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            for _ in range(2):
                done = eval(code, {})
                if inspect.isawaitable(done):
                    await done
            return len(url.ledger()["tasks"])

    monkeypatch.chdir(tmp_path)
    created = asyncio.run(main())

    assert created == 100
    assert "100 ok" in capsys.readouterr().out


def test_the_public_names_are_those_of_the_readme_and_all_of_them_load() -> None:
    table = set(re.findall(r"`(\w+Error)`", README))
    assert "UnknownOutcomeError" in table
    for name in ("CreateTask", "D3Client", "D3Error", "RemoveLinkedIncidents", "Settings", "sandbox", *sorted(table)):
        assert getattr(d3async, name)
        assert name in dir(d3async)


def test_the_profile_of_the_readme_is_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(next(block for block in blocks("toml") if "base_url" in block))

    settings = d3async.Settings.from_env({"VSOC_KEY": "k-general", "VSOC_CREATE": "k-create"}, config=file)

    assert (settings.username, settings.rate) == ("svc-runner", 45.0)
    assert settings.credentials.best("CreateTask") is not None
