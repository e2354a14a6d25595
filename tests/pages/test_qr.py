"""An order that is paid by scanning: the code is on the buyer's own page, as an image a phone can read."""

from __future__ import annotations

import time

import pytest

from chalicelib.payments import store as payments
from chalicelib.payments.model import Started
from tests import shop

CODE = "weixin://wxpay/bizpayurl?pr=abc123"


@pytest.fixture
def scanned(site):
    """An order offered by WeChat Pay's code, opened at the provider before anybody looks at the page."""
    shop.open_account("wechat_pay")
    order = site.place(name="星辰点卡", payment={"provider": "wechat_pay", "method": "native"})
    payments.put_session(order.order_id, Started(qr_text=CODE), int(time.time()))
    return order


@pytest.mark.parametrize("phone", [False, True])
def test_the_code_is_shown_until_the_order_is_paid(site, browser, scanned, phone):
    window = browser(language="zh-CN", phone=phone)
    window.open(site.order_page(scanned))
    window.wait_for("#qr-text", "扫码支付 ¥19.80")
    assert window.see("#qr").get_attribute("alt") == "支付二维码"
    deadline = time.monotonic() + 10
    while not window.run("const q = document.querySelector('#qr'); return q.complete && q.naturalWidth > 100"):
        assert time.monotonic() < deadline, "the image never came"
    assert not window.shows("#pay-link"), "there is nowhere to go: the code is here"
    shop.pay(scanned, int(time.time()), provider="wechat_pay", account_id=scanned.account_id)
    window.wait_for("h1", "已发货")
    assert not window.shows("#qr")


def test_the_image_says_what_the_provider_wants_scanned_and_opens_by_token_only(site, scanned):
    from urllib.error import HTTPError
    from urllib.request import urlopen

    import segno

    with urlopen(site.order_page(scanned) + "/qr.svg") as answer:
        image = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("image/svg+xml")
    drawn = segno.make(CODE, error="m", micro=False).svg_inline(scale=6, border=4, light="#fff")
    assert drawn.partition("<path")[2].strip() in image.replace("\n", "")
    for address in (f"{site.url}/o/{scanned.order_id}/qr.svg", f"{site.url}/o/x/qr.svg"):
        with pytest.raises(HTTPError) as refused:
            urlopen(address)
        assert refused.value.code == 404
    shop.pay(scanned, int(time.time()), provider="wechat_pay", account_id=scanned.account_id)
    with pytest.raises(HTTPError):
        urlopen(site.order_page(scanned) + "/qr.svg")
