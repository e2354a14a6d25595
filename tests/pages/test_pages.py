"""What holds for every page: two languages, colours that can be read, nothing foreign that runs."""

import re
import urllib.error
import urllib.request

import pytest

from chalicelib.pages.language import choose_language
from chalicelib.pages.routes import STATIC
from chalicelib.pages.words import _SCRIPT, _TEMPLATE

WORDS = {**_TEMPLATE, **_SCRIPT}


@pytest.mark.parametrize("name", sorted(WORDS))
def test_each_word_is_said_in_both_languages_with_the_same_places_for_values(name):
    english, chinese = WORDS[name]
    assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese))
    assert not re.search(r"[\u4e00-\u9fff]", english) and english != ""
    assert re.search(r"[\u4e00-\u9fff]", chinese)


def test_the_script_uses_no_word_that_is_missing():
    scripts = "".join(path.read_text("utf-8") for path in STATIC.glob("*.js"))
    used = set(re.findall(r'say\("(\w+)"', scripts)) | set(re.findall(r'toolButton\("(\w+)"', scripts))
    assert len(used) > 20
    assert used - set(_SCRIPT) == set()


def test_every_status_of_an_order_a_line_and_a_refund_has_its_words():
    from typing import get_args

    from chalicelib.orders.answers import LineStatus
    from chalicelib.orders.model import Status

    wanted = {name for status in get_args(Status) for name in (status, f"{status}_text")}
    wanted |= {f"line_{status}" for status in get_args(LineStatus)}
    wanted |= {f"refund_{state}" for state in ("pending", "succeeded", "failed")}
    assert wanted - set(_SCRIPT) == set()


@pytest.mark.parametrize(
    ("asked", "header", "language"),
    [
        (None, None, "en"),
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "en-GB, zh;q=0.9", "en"),
        (None, "de, zh-Hant;q=0.3, en;q=0.2", "zh"),
        (None, "zh;q=0, en;q=0.1", "en"),
        (None, "zh;q=x", "en"),
        (None, "de", "en"),
        ("zh", "en", "zh"),
        ("en", "zh", "en"),
        ("<b>", "zh", "zh"),
    ],
)
def test_the_reader_is_spoken_to_in_the_language_they_like_best(asked, header, language):
    assert choose_language(asked, header) == language


def themes():
    css = (STATIC / "pages.css").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root {(.*?)}", css, re.S)
    )
    return {"light": light, "dark": {**light, **dark}}


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [("ink", "card"), ("ink", "ground"), ("soft", "card"), ("soft", "ground"), ("soft", "off-bg"), ("main-ink", "main"),
     ("main-ink", "main-deep"), ("main", "card"), ("wait", "wait-bg"), ("wait", "card"), ("ok", "ok-bg"),
     ("off", "off-bg"), ("work", "work-bg"), ("bad", "bad-bg")],
)  # fmt: skip
def test_text_stands_out_from_its_ground_as_wcag_asks(theme, ink, paper):
    colours = themes()[theme]
    lighter, darker = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_pages_run_only_our_own_files_and_are_kept_by_nobody(site):
    order = site.place(name="<script>alert(1)</script>")
    for address in (site.order_page(order), site.pay_page(order), f"{site.url}/o/none"):
        status, headers, text = fetch(address)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer", "the address of an order page opens it"
        assert re.findall(r"<script(?![^>]*(?: src=| type=\"application/json\"))", text) == []
        assert " style=" not in text and not re.search(r" on\w+=", text)
        assert "<script>alert(1)" not in text
        assert status == (404 if address.endswith("none") else 200)


def test_the_order_page_itself_holds_no_order(site):
    order = site.place_paid(name="A very particular name")
    _, _, text = fetch(site.order_page(order))
    assert "A very particular name" not in text and order.order_id not in text
    assert order.merchant_order_no not in text


def test_each_file_a_page_names_is_served_and_kept(site):
    order = site.place()
    named = set()
    for address in (site.order_page(order), site.pay_page(order)):
        _, _, text = fetch(address)
        named |= set(re.findall(r'(?:href|src)="[./]*(assets/[^"]+)"', text))
    assert len(named) == 5
    for one in named:
        status, headers, _ = fetch(f"{site.url}/{one}")
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")


@pytest.mark.parametrize("header", ["\x7f", "zh;" * 200, ",;=,", "*"])
def test_a_strange_accept_language_is_no_obstacle(site, header):
    request = urllib.request.Request(f"{site.url}/o/none", headers={"Accept-Language": header})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request)


def fetch(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read().decode()
