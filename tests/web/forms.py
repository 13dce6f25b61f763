"""The forms of a page as a browser without a script sends them."""

from __future__ import annotations

from html.parser import HTMLParser


class Forms(HTMLParser):
    """Every form of a page: its action and its fields, selects by their chosen option, without unticked boxes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, list[tuple[str, str]]]] = []
        self._select = ""
        self._option: dict[str, str | None] | None = None
        self._first = True
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = dict(attrs)
        if tag == "form":
            self.forms.append((at.get("action") or "", []))
        elif tag == "select":
            self._select, self._first = at.get("name") or "", True
            self.forms[-1][1].append((self._select, ""))
        elif tag == "option" and self._select:
            self._option = at if "selected" in at or self._first else None
            self._first = False
            if self._option is not None and "value" in at:
                self.forms[-1][1][-1] = (self._select, at["value"] or "")
                self._option = None
        elif tag == "input" and self.forms and (at.get("type") not in {"checkbox", "radio"} or "checked" in at):
            self.forms[-1][1].append((at.get("name") or "", at.get("value") or ""))

    def handle_data(self, data: str) -> None:
        if self._option is not None and self._select:
            self.forms[-1][1][-1] = (self._select, data.strip())
            self._option = None

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""

    def of(self, action: str = "") -> dict[str, list[str]]:
        """The fields of the form with *action*, each with its values."""
        found: dict[str, list[str]] = {}
        for name, value in next(fields for where, fields in self.forms if where == action):
            found.setdefault(name, []).append(value)
        return found
