"""What a job file looks like inside: enough to describe it, and to write rows of it again byte for byte."""

from __future__ import annotations

import codecs
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    *header_raw* is the header as it stands in the file, without line end. *separator_line*: a `sep=;` line stood first.
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
