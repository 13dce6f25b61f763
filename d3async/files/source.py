"""The bytes of a job file: read more than once, encoding, line ends and separator found, lines, its `Format`."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
import shutil
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from d3async.errors import JobFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BUFFER = 1 << 18


class InputFile:
    """An open file and the name it has for the user. Whoever opens it closes it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name

    def error(self, text: str) -> JobFileError:
        """A `JobFileError` that names the file."""
        return JobFileError(f"{self.name}: {text}", code="job_file")

    def head(self, size: int = 1 << 16) -> bytes:
        """The first *size* bytes."""
        self.file.seek(0)
        return self.file.read(size)

    def close(self) -> None:
        """Close the file (a spooled one is gone with it)."""
        self.file.close()


def open_source(path: Path | None, stream: BinaryIO | None) -> InputFile:
    """*path*, or *stream* (stdin) copied to a temporary file. Raises `JobFileError`."""
    if path is None:
        if stream is None:
            raise JobFileError("no job file was named", code="job_file")
        return InputFile(_spooled(stream), "stdin")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise JobFileError(f"{path} is a folder, not a job file", code="job_file")
        file = path.open("rb", buffering=_BUFFER)
        if not stat.S_ISREG(mode):
            with file:
                return InputFile(_spooled(file), str(path))
    except OSError as error:
        raise JobFileError(f"{path} cannot be read: {_reason(error)}", code="job_file") from error
    return InputFile(file, path.name)


def _spooled(stream: BinaryIO) -> BinaryIO:
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - the Source closes it
    shutil.copyfileobj(stream, spool)
    spool.seek(0)
    return spool


def _reason(error: OSError) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()


BOMS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
_SHOWN = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16 (big endian)", "cp1252": "cp1252 (Windows)"}
_SEPARATORS = {"\t": "tab"}


@dataclass(frozen=True, slots=True)
class Format:
    """The form of a job file. *kind* is `csv`, `jsonl` or `xlsx`.

    *encoding* is a codec without its BOM, but `utf-8-sig` for UTF-8 with one; *bom* says whether there is one.
    *header_raw* is the header as it is in the file, without line end. *separator_line*: a `sep=;` line is before it.
    An xlsx is described as the CSV its rows are rendered to.
    """

    kind: str
    encoding: str = "utf-8"
    bom: bool = False
    delimiter: str = ","
    line_ending: str = "\n"
    sheet: str | None = None
    header_raw: str = ""
    separator_line: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def codec(self) -> str:
        """The codec that writes text and no BOM."""
        return "utf-8" if self.encoding == "utf-8-sig" else self.encoding

    @property
    def from_a_spreadsheet(self) -> bool:
        """Whether a spreadsheet wrote it, by the look of it: scripts write UTF-8 without BOM, Excel never does."""
        return self.kind == "xlsx" or self.bom or self.codec != "utf-8"

    def encode(self, text: str) -> bytes:
        """*text* in the file's encoding, without a BOM."""
        return text.encode(self.codec)

    def start(self) -> bytes:
        """What such a file begins with: BOM, `sep=` line and header line, as far as it has them."""
        lines = [f"sep={self.delimiter}"] if self.separator_line else []
        lines += [self.header_raw] if self.header_raw else []
        bom = BOMS.get(self.codec, b"") if self.bom else b""
        return bom + self.encode("".join(line + self.line_ending for line in lines))

    def describe(self) -> str:
        """As shown to the user: `UTF-8 with BOM, separator ";"`."""
        if self.kind == "xlsx":
            return f'Excel, sheet "{self.sheet}"'
        text = _SHOWN.get(self.codec, self.codec) + (" with BOM" if self.bom else "")
        if self.kind == "jsonl":
            return f"JSONL, {text}"
        return f"{text}, separator {_SEPARATORS.get(self.delimiter) or chr(34) + self.delimiter + chr(34)}"

    def to_json(self) -> dict[str, Any]:
        """For the journal; `from_json` reads it again."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Format:
        """What `to_json` gave, also after a way through JSON text."""
        return cls(**{**stored, "doubts": tuple(stored.get("doubts", ()))})


_CHUNK = 1 << 20
_DELIMITERS = ",;\t|"
_NAMED = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|"}
_MAGIC = {
    b"PK\x03\x04": "is an Excel workbook or another ZIP file: give --format xlsx, or name it .xlsx",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook (.xls): save it as .xlsx or as CSV",
    b"%PDF": "is a PDF, not a job file",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"BZh": "is compressed: unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed: unpack it first",
    b"\xfd7zXZ": "is compressed: unpack it first",
    b"SQLite format 3": "is a SQLite database, not a job file",
}
_CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r"})
_FOREIGN = re.compile("[^\x00-\x7f\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look at the whole file tells."""

    encoding: str
    bom: bool
    nul: bool
    cr_only: bool
    doubts: tuple[str, ...] = ()


def sha256(source: InputFile) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in _chunks(source):
        digest.update(chunk)
    return digest.hexdigest()


def scan(source: InputFile, given: str | None = None) -> Scan:
    """Read all of *source* once, in constant memory. *given* is the user's `--encoding`. Raises `JobFileError`."""
    head = source.head()
    if not head:
        raise source.error("is empty")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise source.error(what)
    encoding, bom = _declared(source, head, given)
    if encoding is None and len(head) - len(head.translate(None, _CONTROLS)) > 8 + len(head) // 20:
        raise source.error("is a binary file, not text")
    if encoding is not None and encoding != "utf-8":
        guessed = not bom and given is None
        doubts = (f"zero bytes look like {encoding} without BOM: if not, give --encoding",) if guessed else ()
        return _read_through(source, encoding, bom=bom, doubts=doubts)
    return _utf8(source, bom=bom, sure=encoding is not None)


def _declared(source: InputFile, head: bytes, given: str | None) -> tuple[str | None, bool]:
    """The encoding that the user, a BOM or the pattern of zero bytes says; None when nothing does."""
    marked = next((name for name in reversed(BOMS) if head.startswith(BOMS[name])), None)
    if given is not None:
        wanted = _codec(source, given)
        if wanted in {"utf-16", "utf-32"}:
            return (marked, True) if marked and marked.startswith(wanted) else (f"{wanted}-le", False)
        return wanted, marked == wanted
    if marked is not None:
        return marked, True
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) * 10 > len(head) * 2 and min(even, odd) * 50 < len(head):
        return ("utf-16-le" if odd > even else "utf-16-be"), False
    return None, False


def _codec(source: InputFile, given: str) -> str:
    try:
        name = codecs.lookup(given).name
        "".encode(name)
    except LookupError:
        raise source.error(f'no encoding is called "{given}": try utf-8, utf-16, cp1252') from None
    return "utf-8" if name == "utf-8-sig" else name


def _read_through(source: InputFile, encoding: str, *, bom: bool, doubts: tuple[str, ...] = ()) -> Scan:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, nul, cr, lf = 1, False, False, False
    try:
        for chunk in _chunks(source):
            text = decoder.decode(chunk)
            lines += text.count("\n")
            nul, cr, lf = nul or "\0" in text, cr or "\r" in text, lf or "\n" in text
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise source.error(f"is not {encoding}, somewhere after line {lines}: give another --encoding") from None
    return Scan(encoding, bom, nul, cr and not lf, doubts)


def _utf8(source: InputFile, *, bom: bool, sure: bool) -> Scan:
    look = _Utf8Look()
    for chunk in _chunks(source):
        look.at(chunk)
    look.end()
    if look.bad_line is None:
        return Scan("utf-8", bom, look.nul, look.cr and not look.lf)
    if sure or bom:
        raise source.error(f"line {look.bad_line} is not UTF-8: give another --encoding")
    if look.foreign:
        raise _mixed(source, look.bad_line)
    doubt = f"line {look.bad_line} is not UTF-8, so cp1252 is assumed: if names look wrong, give --encoding"
    try:
        return _read_through(source, "cp1252", bom=False, doubts=(doubt,))
    except JobFileError:
        raise source.error(f"line {look.bad_line} is not UTF-8, and the file is not cp1252: give --encoding") from None


def _mixed(source: InputFile, line: int) -> JobFileError:
    return source.error(f"line {line} is not UTF-8 although lines before it are: mend it, or give --encoding")


class _Utf8Look:
    """Finds the first line that is not UTF-8, and whether anything beyond ASCII stood before it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._lines = 1
        self.nul = self.cr = self.lf = self.foreign = False
        self.bad_line: int | None = None

    def at(self, chunk: bytes) -> None:
        self.nul = self.nul or b"\0" in chunk
        self.cr = self.cr or b"\r" in chunk
        self.lf = self.lf or b"\n" in chunk
        if self.bad_line is not None:
            return
        if chunk.isascii() and not self._decoder.getstate()[0]:
            self._lines += chunk.count(b"\n")
        else:
            self._text(self._decoder.decode(chunk))

    def end(self) -> None:
        if self.bad_line is None:
            self._text(self._decoder.decode(b"", final=True))

    def _text(self, text: str) -> None:
        bad = _first_escaped(text)
        before = text if bad is None else text[:bad]
        self.foreign = self.foreign or _FOREIGN.search(before.removeprefix("\ufeff")) is not None
        self._lines += before.count("\n")
        if bad is not None:
            self.bad_line = self._lines


def _first_escaped(text: str) -> int | None:
    """The position of the first byte that is not UTF-8; ten times as fast as looking for it with a pattern."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _chunks(source: InputFile) -> Iterator[bytes]:
    source.file.seek(0)
    while chunk := source.file.read(_CHUNK):
        yield chunk


def given_delimiter(source: InputFile, given: str) -> str:
    """*given* as one character: itself, or `tab`, `comma`, `semicolon`, `pipe`. Raises `JobFileError`."""
    delimiter = _NAMED.get(given.casefold(), given)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise source.error(f'"{given}" is no separator: give one character, or tab')
    return delimiter


def find_delimiter(header: str) -> tuple[str, tuple[str, ...]]:
    """The separator that cuts *header* into most columns, and the doubt about it if another does half as well."""
    counts = {delimiter: len(_split(header, delimiter)) - 1 for delimiter in _DELIMITERS}
    best, second, *_ = sorted(_DELIMITERS, key=lambda delimiter: -counts[delimiter])
    if counts[second] * 2 >= counts[best] > 0:
        doubt = f"the header has {_shown(best)} and {_shown(second)}; {_shown(best)} is assumed to separate"
        return best, (f"{doubt}: if columns look wrong, give --delimiter",)
    return best, ()


def _split(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []


def _shown(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else f'"{delimiter}"'


LINE_LIMIT = 1 << 20
"""Characters a line, and a row, may have."""


@contextmanager
def text_of(source: InputFile, scan: Scan, newline: str) -> Iterator[io.TextIOWrapper]:
    """The text of *source* from its start, after the BOM; a changed or broken file raises `JobFileError`."""
    source.file.seek(len(BOMS[scan.encoding]) if scan.bom else 0)
    wrapper = io.TextIOWrapper(source.file, encoding=scan.encoding, newline=newline)
    try:
        yield wrapper
    except UnicodeError as error:
        raise source.error(f"is not {scan.encoding} any more: was it changed while it was read?") from error
    except OSError as error:
        raise source.error(f"cannot be read further: {error.strerror}") from error
    finally:
        wrapper.detach()
