"""`[profiles.NAME.files]`: what it may say, and how it is written without touching anything else."""

# ruff: noqa: E501, ISC004 - a config file stands here as it is written

from __future__ import annotations

import os
import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3async.config.config_file import load_profile, save_files
from d3async.errors import JobFileError, SettingsError
from tests.config.test_no_secret_is_shown import CANARY, shown_by

if TYPE_CHECKING:
    from pathlib import Path

Options = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def load(path: Path, text: str) -> Options:
    path.write_text(text)
    return load_profile(path, "a", {}).files


def test_a_profile_says_how_files_are_read(path: Path) -> None:
    text = """
    [profiles.a.files]
    map = ["Bearbeiter=assignee", "Notizen="]
    set = ["type=Default"]
    date_format = "dd.MM.yyyy"
    """

    assert load(path, text) == {
        "map": ("Bearbeiter=assignee", "Notizen="),
        "set": ("type=Default",),
        "date_format": "dd.MM.yyyy",
    }


def test_a_profile_without_says_nothing(path: Path) -> None:
    assert load(path, "[profiles.a]") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.a.file]", '[profiles.a] has no setting "file"; did you mean "files"?'),
        ("[profiles.a]\nfiles = 1", "[profiles.a] files must be a table: map = […]"),
        ("[profiles.a.files]\nmpa = []", '[profiles.a] files has no setting "mpa"; did you mean "map"?'),
        ("[profiles.a.files]\ndate-format = ''", 'has no setting "date-format"; did you mean "date_format"?'),
        ("[profiles.a.files]\ncommand = 'x'", '[profiles.a] files has no setting "command"'),
        ("[profiles.a.files]\nmap = 'A=name'", '[profiles.a] files.map must be a list of texts: ["Theirs=ours"]'),
        ("[profiles.a.files]\nset = [1]", '[profiles.a] files.set must be a list of texts: ["column=Value"]'),
        ("[profiles.a.files]\nmap = {A = 'name'}", "files.map must be a list of texts"),
        ("[profiles.a.files]\nmap = ['A']", '[profiles.a] files.map "A" lacks its =: write it like "Theirs=ours"'),
        ("[profiles.a.files]\nset = ['=x']", 'files.set "=x" lacks its ='),
        ("[profiles.a.files]\nmap = ['A=name', ' A =due']", '[profiles.a] files.map says twice what "A" is'),
        ("[profiles.a.files]\nsheet = 1", "[profiles.a] files.sheet must be text"),
        ("[profiles.a.files]\nsheet = ' '", "[profiles.a] files.sheet must be text"),
        ("[profiles.a]\n[profiles.b.files]\nshet = ''", '[profiles.b] files has no setting "shet"; did you mean "sheet"?'),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(path, text)
    assert words in caught.value.message


OPTIONS: Options = {"map": ["Who=assignee"], "date_format": "dd.MM.yyyy"}
NEW = '[profiles.a.files]\nmap = ["Who=assignee"]\ndate_format = "dd.MM.yyyy"\n'
WRITTEN = {
    "at the end, below no comment about something else": (
        "# mine\n[profiles.a] # here\nrate = 5  # slow\n\n# about b\n[profiles.b]\nrate = 3\n",
        f"# mine\n[profiles.a] # here\nrate = 5  # slow\n\n# about b\n[profiles.b]\nrate = 3\n\n{NEW}",
    ),
    "without a last line end": ("[profiles.a]\nrate = 5", f"[profiles.a]\nrate = 5\n\n{NEW}"),
    "a profile that is quoted": (
        '[profiles."a"]\n\n[profiles."a".keys]\nCreateTask_env = "K"\n',
        f'[profiles."a"]\n\n[profiles."a".keys]\nCreateTask_env = "K"\n\n{NEW}',
    ),
    "a profile in dots": ("profiles.a.rate = 5\n", f"profiles.a.rate = 5\n\n{NEW}"),
    "something that only looks like it": (
        '[profiles.a]\nusername = """\n[profiles.a.files]\n"""\n',
        f'[profiles.a]\nusername = """\n[profiles.a.files]\n"""\n\n{NEW}',
    ),
    "in place, comments beside what they are about": (
        '[profiles.a.files]\nmap = [\n  "Who=name",  # from Jira\n  # whole line\n  "Gone=due",\n]\n\n# about b\n[profiles.b]\n',
        '[profiles.a.files]\nmap = [\n  "Who=assignee",  # from Jira\n  # whole line\n]\n'
        'date_format = "dd.MM.yyyy"\n\n# about b\n[profiles.b]\n',
    ),
    "in place, an option no longer there": (
        '[profiles.a.files]\nsheet = "T"\nmap = ["Who=assignee"] # w\ndate_format = "dd" # f\n[profiles.b]\n',
        '[profiles.a.files]\nmap = ["Who=assignee"] # w\ndate_format = "dd.MM.yyyy" # f\n[profiles.b]\n',
    ),
    "in place, on one line": (
        '[profiles]\na = { rate = 5, files = { map = ["B=name"] } } # c\n',
        '[profiles]\na = { rate = 5, files = { map = ["Who=assignee"], date_format = "dd.MM.yyyy"} } # c\n',
    ),
    "as it was, if nothing is new": (f"{NEW}# x\n", f"{NEW}# x\n"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), WRITTEN.values(), ids=WRITTEN.keys())
def test_it_is_written_where_it_belongs_and_everything_else_stays(path: Path, before: str, after: str) -> None:
    path.write_text(before)
    save_files(path, "a", lambda _: OPTIONS)

    assert path.read_text() == after
    assert [file.name for file in path.parent.iterdir()] == ["config.toml"]


def test_the_byte_order_mark_and_line_ends_of_windows_stay(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf[profiles.a]\r\nrate = 5\r\n")
    save_files(path, "a", lambda _: OPTIONS)

    assert path.read_bytes() == b"\xef\xbb\xbf[profiles.a]\r\nrate = 5\r\n\r\n" + NEW.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_stays(path: Path, mode: int) -> None:
    path.write_text("[profiles.a]\n")
    path.chmod(mode)
    save_files(path, "a", lambda _: OPTIONS)

    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "d3.toml").write_text("[profiles.a]\n")
    path.symlink_to(tmp_path / "dotfiles" / "d3.toml")
    save_files(path, "a", lambda _: OPTIONS)

    assert path.is_symlink()
    assert (tmp_path / "dotfiles" / "d3.toml").read_text() == f"[profiles.a]\n\n{NEW}"


def test_what_is_there_is_what_is_changed(path: Path) -> None:
    path.write_text('[profiles.a.files]\nsheet = "T"\n')
    save_files(path, "a", lambda there: {**there, "encoding": "cp1252"})

    assert load_profile(path, "a", {}).files == {"sheet": "T", "encoding": "cp1252"}


def test_of_many_who_save_at_once_nobody_undoes_another(path: Path) -> None:
    path.write_text("[profiles.a]\n")

    def save(number: int) -> None:
        save_files(path, "a", lambda there: {"map": [*there.get("map", []), f"H{number}=name"]})

    with ThreadPoolExecutor(8) as several:
        list(several.map(save, range(24)))

    assert sorted(load_profile(path, "a", {}).files["map"]) == sorted(f"H{number}=name" for number in range(24))
    assert [file.name for file in path.parent.iterdir()] == ["config.toml"]


def refusal(path: Path, change: Any = lambda _: OPTIONS) -> str:
    with pytest.raises(SettingsError) as caught:
        save_files(path, "a", change)
    assert CANARY not in shown_by(caught.value)
    return caught.value.message


def test_a_profile_on_one_line_is_told_what_to_write_by_hand(path: Path) -> None:
    before = f'[profiles]\na = {{ api_key = "{CANARY}" }}\n'
    path.write_text(before)

    assert refusal(path) == (
        f"{path} was not changed: the profile is no table of its own. Make it one, [profiles.a], and put this below\n\n"
        f"{NEW}"
    )
    assert path.read_text() == before


def test_a_file_that_cannot_be_written_stays_as_it_was(path: Path) -> None:
    path.write_text(f'[profiles.a]\napi_key = "{CANARY}"\n')
    (path.parent / ".config.toml.lock").mkdir()

    assert refusal(path).endswith("the mapping was not saved, the file is as it was")
    assert path.read_text() == f'[profiles.a]\napi_key = "{CANARY}"\n'


@pytest.mark.parametrize(
    "text", [f'x = "{CANARY}', f'[profiles.b]\napi_key = "{CANARY}"', f'api_key = "{CANARY}"\n\udcff']
)
def test_a_file_that_was_changed_meanwhile_stays_as_it_is(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    assert refusal(path).endswith("was changed meanwhile and cannot be used any more: the mapping was not saved")


def test_a_change_that_is_refused_leaves_the_file(path: Path) -> None:
    path.write_text(f'[profiles.a]\napi_key = "{CANARY}"\n')

    def refused(_: object) -> Options:
        raise JobFileError("no such column", code="header")

    assert refusal(path, refused) == f"{path} no such column"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="="), min_size=1, max_size=5).filter(str.strip)
LISTS = st.dictionaries(NAMES.map(str.strip), st.text(st.characters(codec="utf-8"), max_size=5), max_size=4).map(
    lambda found: [f"{one}={other}" for one, other in found.items()]
)
FILES = st.fixed_dictionaries({}, optional={"map": LISTS, "set": LISTS, "sheet": NAMES, "date_format": NAMES})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=NAMES, first=FILES, second=FILES)
def test_whatever_is_saved_is_read_again_and_nothing_else_changes(
    path: Path, name: str, first: Options, second: Options
) -> None:
    import tomlkit

    tree = {"default_profile": name, "profiles": {name: {"rate": 5}, "other": {"rate": 6}}}
    path.write_text(tomlkit.dumps(tree), "utf-8", newline="")
    for options in (first, second):
        save_files(path, name, lambda _, options=options: options)  # type: ignore[misc]
        found = tomllib.loads(path.read_bytes().decode())
        assert {"files": {}, **found["profiles"].pop(name)} == {"rate": 5, "files": options}
        assert found["profiles"] == {"other": {"rate": 6}} if name != "other" else {}
