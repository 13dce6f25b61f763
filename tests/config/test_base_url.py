"""What may be pasted as the base URL, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.config.setting_fields import clean_base_url, is_loopback

CANARY = "canary-7f3a9c51e2"


SITE = "https://d3.example.com/ce_site/VSOC"


@pytest.mark.parametrize(
    ("pasted", "cleaned"),
    [
        (SITE, SITE),
        (f"{SITE}/", SITE),
        (f"  {SITE}\n", SITE),
        (f"{SITE}/api/Command", SITE),
        (f"{SITE}/api/Command/", SITE),
        (f"{SITE}/api/Command/CreateTask", SITE),
        (f"{SITE}/api/command/CreateTask/", SITE),
        (f"{SITE}//api/Command/RemoveLinkedIncidents", SITE),
        (f"{SITE}/api/Command/api/Command/CreateTask", SITE),
        ("https:/d3.example.com/ce_site/VSOC", SITE),
        ("https:///d3.example.com//ce_site///VSOC", SITE),
        ("HTTPS://D3.Example.COM/ce_site/VSOC", SITE),
        ("https://d3.example.com:443/ce_site/VSOC", SITE),
        ("https://d3.example.com:8443/ce_site/VSOC", "https://d3.example.com:8443/ce_site/VSOC"),
        ("https://d3.example.com", "https://d3.example.com"),
        ("https://d3.example.com/api/CommandCentre", "https://d3.example.com/api/CommandCentre"),
        ("https://d3.example.com/api", "https://d3.example.com/api"),
        ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ("http://127.8.9.10/x", "http://127.8.9.10/x"),
        ("http://localhost:80/x", "http://localhost/x"),
        ("http:/localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_a_base_url_is_cut_to_the_site_path(pasted: str, cleaned: str) -> None:
    assert clean_base_url(pasted) == cleaned


@pytest.mark.parametrize(
    ("pasted", "word"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("d3.example.com/ce_site/VSOC", "begin with https://"),
        ("ftp://d3.example.com", "begin with https://"),
        ("https:d3.example.com", "begin with https://"),
        ("https://", "no host"),
        ("https:///", "no host"),
        ("http://d3.example.com/x", "http://"),
        ("http://localhost.example.com/x", "http://"),
        ("http://127.0.0.1.example.com/x", "http://"),
        ("http://127.1/x", "http://"),
        ("http://128.0.0.1/x", "http://"),
        ("http://0.0.0.0/x", "http://"),
        ("http://[::2]/x", "http://"),
        ("http://\uff4cocalhost/x", "http://"),
        (f"https://user:{CANARY}@d3.example.com/x", "password"),
        (f"http://user:{CANARY}@127.0.0.1/x", "password"),
        (f"https://d3.example.com/x?key={CANARY}", "after ? or #"),
        (f"https://d3.example.com/x#{CANARY}", "after ? or #"),
        ("https://d3.example.com:port/x", "port"),
        ("https://d3.example.com:99999/x", "port"),
        ("https://[::1/x", "host"),
        ("https://d3.example.com\\@evil.example/x", "backslash"),
        ("https://d3 .example.com/x", "blank"),
        ("https://d3.example.com/x\r\nHost: evil", "control"),
    ],
)
def test_a_base_url_that_could_send_the_key_elsewhere_or_in_clear_is_refused(pasted: str, word: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        clean_base_url(pasted)

    assert word in str(caught.value)
    assert CANARY not in str(caught.value)


@given(st.text())
def test_any_text_is_a_clean_base_url_or_refused(text: str) -> None:
    try:
        once = clean_base_url(text)
    except ValueError:
        return

    assert clean_base_url(once) == once
    assert once.startswith("https://") or is_loopback(once.removeprefix("http://").split("/")[0].rpartition(":")[0])
