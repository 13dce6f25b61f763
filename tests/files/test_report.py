"""report.html: one page that needs nothing else, says what happened, and takes nobody's text for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from d3async.files.run_files import write_folder, write_report
from d3async.journal.sqlite.reader import FILE
from tests.files.browser import CHROMIUM, Browser
from tests.journal.factory import LINK_HEADER, START, Entry, Told, every_outcome, long_run, make, unsent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "<script>alert('d3')</script><img src=http://evil.example/x onerror=alert(1)>\"'&{{7*7}}"


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def evil_run(folder: Path) -> Path:
    """A run in which everybody's text tries to be markup."""
    entries = [
        Entry(f"{EVIL},{EVIL}", "failed", EVIL, EVIL, label=EVIL),
        Entry(f"{EVIL},b", "partial", items=((EVIL, "failed", "x", EVIL), ("b", "ok", "", ""))),
    ]
    facts = {"stop": {"message": EVIL}, "warnings": [EVIL], "settings": {EVIL: EVIL}, "next": EVIL, EVIL: EVIL}
    return make(
        folder, entries, header=LINK_HEADER, runs=(Told(facts),), site=EVIL, base_url=EVIL, input=EVIL, sha256=EVIL
    )


def test_text_of_d3_and_of_the_file_stays_text(tmp_path: Path) -> None:
    page = page_of(evil_run(tmp_path))
    assert not page.all("script")
    assert not page.all("img")
    assert page.text.count(EVIL) >= 8
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_page_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    page = page_of(evil_run(tmp_path))
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in {"href", "src", "xlink:href"}
    ]
    assert links
    assert all(re.fullmatch(r"[a-z]+\.(csv|jsonl|json|html)", link or "") for link in links)
    assert not page.all("link")
    assert "url(" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_its_policy_forbids_everything_but_its_own_style(tmp_path: Path) -> None:
    policies = [
        meta["content"] for meta in page_of(every_outcome(tmp_path)).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]  # fmt: skip
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_files_it_links_to_are_beside_it(tmp_path: Path) -> None:
    folder = every_outcome(tmp_path)
    written = write_folder(folder)
    linked = {link["href"] for link in page_of(folder).all("a")}
    assert linked == {"results.csv", "failed.csv", "unknown.csv", "summary.json"}
    assert written.report.parent == folder


def test_it_counts_every_outcome_and_says_what_was_in_flight(tmp_path: Path) -> None:
    text = page_of(every_outcome(tmp_path)).text
    assert "tasks.csv: 1 of 6 rows ok" in text
    assert "1 row was sent and had no recorded answer" in text
    assert "1 row of an earlier state of the file is no longer in it" in text


def test_a_long_run_tells_causes_pace_and_facts(tmp_path: Path) -> None:
    text = page_of(long_run(tmp_path, 2_000)).text
    for expected in (
        "Incident … does not exist.", "Assignee <script>alert('d3')</script> is not a user", "no answer within 60 s",
        " 429",
        "paused", "paused or no connection", "It stopped before the end: more than 3 % failed",
        "41 due dates are in the past", "put tasks.csv back where it was",
        "48 requests/s", "concurrency", "Half within",
    ):  # fmt: skip
        assert expected in text, expected


def test_a_run_folder_without_answers_has_a_page_too(tmp_path: Path) -> None:
    text = page_of(make(tmp_path, [unsent("1,a,b,c")], runs=(Told(finished_at=None, exit_code=None),))).text
    assert "tasks.csv: 0 of 1 rows ok" in text
    assert "Answers over time" not in text


def test_an_empty_file_has_a_page_too(tmp_path: Path) -> None:
    assert "0 of 0 rows ok" in page_of(make(tmp_path, [])).text


def test_headings_step_down_one_at_a_time_and_tables_name_their_columns(tmp_path: Path) -> None:
    page = page_of(long_run(tmp_path, 500))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all(header.get("scope") in {"col", "row"} for header in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]


def test_every_picture_has_a_title_or_is_only_decoration(tmp_path: Path) -> None:
    page = page_of(long_run(tmp_path, 500))
    titles = {title.get("id") for title in page.all("title")}
    for picture in page.all("svg"):
        assert picture.get("aria-hidden") == "true" or picture.get("aria-labelledby") in titles


def palette(style: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", style))


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_worked_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_bars_can_be_told_from_the_page(tmp_path: Path, scheme: str) -> None:
    style = write_report(every_outcome(tmp_path)).read_text(encoding="utf-8")
    light, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    colours = palette(light) if scheme == "light" else palette(rest.partition("@media")[0])
    for text in ("text", "muted", "link"):
        assert contrast(colours[text], colours["page"]) >= 4.5, text
        assert contrast(colours[text], colours["panel"]) >= 4.5, text
    for bar in ("ok", "partial", "failed", "unknown", "invalid", "unsent"):
        assert contrast(colours[bar], colours["page"]) >= 3, bar


def test_the_page_is_small_however_much_went_wrong(tmp_path: Path) -> None:
    long, entries = "x" * 5_000, []
    for at in range(60):
        items = tuple((f"{long}{item}", "failed", "code", f"{'y' * at} {long}") for item in range(3))
        entries.append(Entry(long, "failed", "code", long, items=items, label=long, sent_at=START, done_at=START + at))
    events = tuple((1, START + at, "pause", 0.5, long) for at in range(1_000))
    facts = {"warnings": [long] * 500, "settings": {f"s{at}": long for at in range(50)}}
    folder = make(tmp_path, entries, header=LINK_HEADER, runs=(Told(facts),) * 3, events=events)
    assert write_report(folder).stat().st_size < 1_000_000


@pytest.mark.slow
def test_a_million_rows_make_a_page_of_less_than_a_megabyte(tmp_path: Path) -> None:
    assert write_report(long_run(tmp_path, 1_000_000, rate=4_800)).stat().st_size < 1_000_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium to open the page in: apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(long_run(tmp_path_factory.mktemp("run"))).report


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (360, "light")])
def test_in_a_browser_nothing_leaves_the_page_and_nothing_complains(
    browser: Browser, page: Path, width: int, scheme: str
) -> None:
    seen = browser.open(page, width=width, scheme=scheme)
    assert seen.requests == [page.as_uri()]
    assert seen.complaints == []
    assert page.stat().st_size <= 1_000_000


def test_markup_in_texts_does_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    page = write_report(evil_run(tmp_path))
    seen = browser.open(page)
    assert (seen.requests, seen.complaints) == ([page.as_uri()], [])
    assert browser.measure("document.scripts.length + document.images.length") == 0


def test_a_script_that_got_into_the_page_would_not_run(browser: Browser, tmp_path: Path) -> None:
    page = write_report(every_outcome(tmp_path))
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    assert browser.open(page).complaints
    assert browser.measure("document.title") != "taken"


@pytest.mark.parametrize("width", [320, 360, 1100])
def test_the_page_never_has_to_be_moved_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.measure("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_the_page_follows_the_colour_scheme_of_its_reader(
    browser: Browser, page: Path, scheme: str, *, light: bool
) -> None:
    browser.open(page, scheme=scheme)
    background: Any = browser.measure("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is light


def test_the_journal_beside_the_page_is_the_only_thing_it_was_made_from(tmp_path: Path) -> None:
    folder = long_run(tmp_path / "one", 300)
    copy = tmp_path / "two" / "one"
    copy.mkdir(parents=True)
    (copy / FILE).write_bytes((folder / FILE).read_bytes())
    assert write_report(folder).read_bytes() == write_report(copy).read_bytes()
