"""Rules of the house that import-linter does not hold: sizes, circles of imports, rooms of SQL and printing, names."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import d3async

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(d3async.__file__).parent
MOST_FILES = 160
MOST_LINES = 450
MOST_LINES_OF_A_FUNCTION = 40
SQL_ROOMS = ("journal/", "ratelimit/sqlite_store.py", "ratelimit/postgres_store.py")
PRINTING_ROOMS = ("cli/", "__main__.py")
SQL = re.compile(
    r"^\s*(with \w+( as|\()|select\s.+\sfrom\s|insert (or \w+ )?into \w|update \w+ set\s|delete from \w"
    r"|(create|drop|alter) (temp |unique )?(table|index|view|type|function)\s|pragma \w|begin immediate"
    r"|listen \w|notify \w)",
    re.IGNORECASE | re.DOTALL,
)
GONE = {
    "aftermath", "adopt", "against", "aside", "book", "contact", "ended", "errand", "examined", "findings", "homes",
    "kept", "lasting", "lesson", "line", "metronome", "noted", "outbox", "patience", "plain", "proof", "rundown",
    "settled", "shape", "sight", "single", "standing", "told", "traces", "turns", "untouched", "ways", "wishes",
    "words",
}  # fmt: skip
"""Words that name no file and no class any more: CONTRIBUTING says which words are used instead."""


def paths() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "samples" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module that is no docstring and no annotation, with its line."""
    docs = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and id(node) not in docs and isinstance(node.value, str | bytes):
            yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("utf-8", "replace")


def imports(path: Path) -> set[str]:
    """Modules of ours that *path* imports when it is imported; not those inside functions, or for types alone."""
    known = {"d3async." + name_of(other)[:-3].replace("/", ".").removesuffix(".__init__") for other in paths()}
    found: set[str] = set()
    queue: list[ast.AST] = list(tree(path).body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            queue += node.orelse
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
        else:
            queue += ast.iter_child_nodes(node)
    return found & known


def _lines_of_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return (first.end_lineno or 0) - first.lineno + 1 if text else 0


def test_the_package_has_few_files() -> None:
    assert sum(not name_of(path).startswith("web/") for path in paths()) <= MOST_FILES


@pytest.mark.parametrize("path", paths(), ids=name_of)
def test_a_module_and_its_functions_are_of_a_size_that_one_can_read(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1 - _lines_of_docstring(node)
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {"d3async." + name_of(path)[:-3].replace("/", "."): imports(path) for path in paths()}
    graph["d3async"] = graph.pop("d3async.__init__", set()) - {"d3async"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("path", paths(), ids=name_of)
def test_sql_is_where_journals_and_limits_are(path: Path) -> None:
    if name_of(path).startswith(SQL_ROOMS):
        return
    assert [(line, text) for line, text in texts(path) if SQL.match(text)] == []


@pytest.mark.parametrize("path", paths(), ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    if name_of(path).startswith(PRINTING_ROOMS):
        return
    used = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Name | ast.Attribute)}
    assert used & {"print", "input", "sys.stdout", "sys.stderr", "click.echo", "Console", "getpass"} == set()


@pytest.mark.parametrize("path", paths(), ids=name_of)
def test_no_file_and_no_class_has_a_name_that_is_an_image(path: Path) -> None:
    names = {path.stem, *(node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))}
    parts = {part.casefold() for name in names for part in re.findall(r"[A-Z]?[a-z]+", name)}
    assert parts & GONE == set()
