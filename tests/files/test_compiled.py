"""What a template compiles to is kept beside compiled modules, and made anew where it is old, torn or missing."""

import sys
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

from d3async.files.compiled import Compiled


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "__pycache__").mkdir()
    source = tmp_path / "page.html.j2"
    source.write_text("Hello {{ name }}")
    return source


def filled(template: Path) -> str:
    environment = Environment(
        loader=FileSystemLoader(template.parent), bytecode_cache=Compiled(template), autoescape=True
    )
    return environment.get_template(template.name).render(name="D3")


def kept(template: Path) -> list[Path]:
    return list((template.parent / "__pycache__").iterdir())


def test_it_is_kept_and_used(template: Path) -> None:
    assert filled(template) == "Hello D3"
    [file] = kept(template)
    before = file.stat().st_ino
    assert filled(template) == "Hello D3"
    assert (kept(template), file.stat().st_ino) == ([file], before)


def test_a_template_that_changed_is_compiled_anew(template: Path) -> None:
    filled(template)
    template.write_text("Good night {{ name }}")

    assert filled(template) == "Good night D3"


@pytest.mark.parametrize("left", [0, 1, 20, -1])
def test_what_is_torn_is_compiled_anew(template: Path, left: int) -> None:
    filled(template)
    [file] = kept(template)
    file.write_bytes(file.read_bytes()[:left])

    assert filled(template) == "Hello D3"


def test_a_place_that_cannot_be_written_to_costs_nothing_but_time(template: Path) -> None:
    (template.parent / "__pycache__").rmdir()
    (template.parent / "__pycache__").write_text("in the way")

    assert filled(template) == "Hello D3"


def test_nothing_is_kept_where_python_may_keep_nothing(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    assert filled(template) == "Hello D3"
    assert kept(template) == []
