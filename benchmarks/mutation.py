"""Which small mistakes in the decisive rooms would the tests not notice? A mutant a time, the rest as it is.

Why: coverage says that a line ran, this says that somebody looked at what it did. Mutants are made from the syntax tree
(comparisons, constants, boolean operators, negations, returned words) and, as half of the journal's decisions stand in
SQL, from its words too.

    python -m benchmarks.mutation              prints the survivors, room by room
"""

from __future__ import annotations

import ast
import importlib
import io
import os
import re
import shutil
import signal
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# what every mutant needs, imported once before the fork
for _module in ("aiohttp", "anyio", "filelock", "hypothesis", "pydantic", "pytest_asyncio", "xdist", "pytest_cov"):
    importlib.import_module(_module)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
LIMIT = 120
"""Seconds a mutant may take: one that hangs is noticed too."""


@dataclass(frozen=True)
class Room:
    """What is mutated (*only* these functions, or all), and the tests that are to notice."""

    path: str
    tests: tuple[str, ...]
    only: frozenset[str] = frozenset()


_JOURNAL = (
    "tests/journal/sqlite/test_merge_rows.py",
    "tests/journal/sqlite/test_row_claims.py",
    "tests/journal/sqlite/test_run_folder.py",
)
ROOMS = (
    Room("d3async/policy/retry.py", ("tests/policy/test_retry.py",)),
    Room("d3async/policy/outcome.py", ("tests/policy/test_outcome.py",)),
    Room("d3async/journal/sqlite/merge_rows.py", _JOURNAL),
    Room(
        "d3async/journal/sqlite/row_claims.py", _JOURNAL,
        frozenset({
            "guard", "claim_all", "_claim", "_claim_items", "_jobs_of", "release", "settle_all", "_settle_whole",
            "_settle_items", "_settle_alike", "_settle_rows",
        }),
    ),
    Room(
        "d3async/journal/sqlite/staging.py", ("tests/journal/sqlite/test_staging.py",),
        frozenset({"duplicates", "_repeated", "_reject"}),
    ),
    Room(
        "d3async/jobs/identity.py", ("tests/journal/sqlite/test_staging.py", "tests/journal/test_profiles.py"),
        frozenset({"digest", "job_entry"}),
    ),
)  # fmt: skip
_COMPARE = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_SQL = (
    (r"\band\b", "or"), (r"\bor\b", "and"), (r" != ", " = "), (r" = 1\b", " = 0"), (r" = 0\b", " = 1"),
    (r"\bnot exists\b", "exists"), (r"\bmin\(", "max("), (r"\bmax\(", "min("), (r" - ", " + "), (r" \+ 1", " + 2"),
    (r" is not ", " is "), (r"'pending'", "'other'"), (r"'failed'", "'other'"), (r"'partial'", "'other'"),
    (r"'unknown'", "'other'"), (r"'sent'", "'other'"), (r"'ok'", "'other'"), (r"'invalid'", "'other'"),
)  # fmt: skip


def mutants(source: str, only: frozenset[str]) -> Iterator[tuple[int, str, str]]:
    """Line, what was changed, and the changed source, for every small change."""
    tree = ast.parse(source)
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and (not only or node.name in only)]
    if not only:
        scopes = [tree]  # type: ignore[list-item] - the whole module is one scope
    seen: set[str] = set()
    for scope in scopes:
        docs = {id(node.body[0].value) for node in ast.walk(scope) if _documented(node)} | set(_declared(scope))
        for node in ast.walk(scope):
            if id(node) not in docs:
                for said in _changed(node):
                    text = ast.unparse(tree)
                    if text not in seen:
                        seen.add(text)
                        yield getattr(node, "lineno", 0), said, text


def _declared(scope: ast.AST) -> Iterator[int]:
    """Types and decorators: they declare, and mypy looks at them."""
    for node in ast.walk(scope):
        for part in (
            getattr(node, "annotation", None), getattr(node, "returns", None), *getattr(node, "decorator_list", []),
        ):  # fmt: skip
            if isinstance(part, ast.AST):
                yield from (id(inner) for inner in ast.walk(part))


def _documented(node: ast.AST) -> bool:
    body = getattr(node, "body", None)
    return isinstance(body, list) and bool(body) and isinstance(body[0], ast.Expr)


def _changed(node: ast.AST) -> Iterator[str]:
    """Change *node* in place, say what, and put it back."""
    match node:
        case ast.Compare():
            before = node.ops[0]
            node.ops[0] = _COMPARE[type(before)]()
            yield f"{type(before).__name__} -> {type(node.ops[0]).__name__}"
            node.ops[0] = before
        case ast.BoolOp():
            before = node.op
            node.op = ast.And() if isinstance(before, ast.Or) else ast.Or()
            yield f"{type(before).__name__} -> {type(node.op).__name__}"
            node.op = before
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.If() | ast.IfExp():
            before = node.test
            node.test = ast.UnaryOp(ast.Not(), before)
            yield "if -> if not"
            node.test = before
        case ast.Constant(value=bool() | int() | float()):
            before = node.value
            node.value = (not before) if isinstance(before, bool) else before + 1
            yield f"{before!r} -> {node.value!r}"
            node.value = before
        case ast.Constant(value=str()):
            yield from _changed_text(node)


def _changed_text(node: ast.Constant) -> Iterator[str]:
    before = node.value
    if re.search(r"\b(select|update|where|and|set|insert|delete|case)\b", before):
        for pattern, word in _SQL:
            for found in re.finditer(pattern, before):
                node.value = before[: found.start()] + word + before[found.end() :]
                yield f"{before[max(0, found.start() - 25) : found.end() + 15]!r}: {found[0].strip()} -> {word.strip()}"
    elif re.fullmatch(r"[a-z_0-9]{2,}", before):
        node.value = "other"
        yield f"{before!r} -> 'other'"
    node.value = before


def noticed(room: Room, text: str) -> bool:
    """Whether the tests fail on *text*, in a process of its own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    os.setpgid(0, 0)
    signal.alarm(LIMIT)
    with tempfile.TemporaryDirectory() as place:
        code = 1
        try:
            code = _tested(Path(place), room, text)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            os._exit(code)
    return False


def _tested(place: Path, room: Room, text: str) -> int:
    shutil.copytree(ROOT / "d3async", place / "d3async", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    (place / room.path).write_text(text)
    os.chdir(place)
    sys.path.insert(0, str(place))
    sink = io.StringIO()
    with redirect_stdout(sink), redirect_stderr(sink):
        quietly = ["-q", "-x", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        return int(pytest.main([*quietly, "-k", "not whatever_the_edits", *room.tests]))


def main() -> None:
    """Print the survivors of every room."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    wanted = sys.argv[1:]
    for room in ROOMS:
        if wanted and not any(word in room.path for word in wanted):
            continue
        source = (ROOT / room.path).read_text()
        if noticed(room, source):
            sys.exit(f"{room.path}: the tests fail without a mutant")
        made, survivors = 0, []
        for line, said, text in mutants(source, room.only):
            made += 1
            if not noticed(room, text):
                survivors.append((line, said))
                print(f"  {room.path}:{line}  {said}", flush=True)
        print(f"{room.path}: {made} mutants, {len(survivors)} survived", flush=True)


if __name__ == "__main__":
    main()
