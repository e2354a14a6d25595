"""docs/data.md against the code, and against the rows that a whole sale really leaves in the table."""

import ast
import re
from functools import cache

import boto3
import pytest

from chalicelib.accounts import store as accounts
from chalicelib.aws.rows import from_row
from chalicelib.balance import store as balance
from chalicelib.balance import top_up_store
from chalicelib.balance.adjust import adjust
from chalicelib.balance.model import TopUp
from chalicelib.balance.watch_low import watch_all
from chalicelib.core import settings
from chalicelib.core.ids import new_id, order_id_for
from chalicelib.fulfilment.reveal import reveal_order
from chalicelib.inventory.figures import recount_held
from chalicelib.ledger import prove_ledger
from chalicelib.ledger.post_ledger import post_missing
from chalicelib.orders import order_row
from chalicelib.orders import store as orders
from chalicelib.orders.release_unpaid import release_all_due
from chalicelib.payments import store as sessions
from chalicelib.payments.model import DisputeFacts, Started
from chalicelib.payments.receive_notice import receive_notice
from chalicelib.refunds.finish_refund import finish_refunds
from chalicelib.refunds.model import AskRefund
from chalicelib.refunds.request_refund import request_refund
from tests import shop
from tests.api import Api
from tests.guards.source import PACKAGE, ROOT, is_store, modules, tree_of
from tests.imports import uploads

# The index attributes stand in a section of their own.
EVERYWHERE = {"pk", "sk", "due_pk", "due_at", "day_pk", "day_sk"}


def file_of(name):
    return modules()[name].relative_to(PACKAGE).as_posix()


@cache
def sections(level):
    """Heading -> text below it, of the headings of one level."""
    text = (ROOT / "docs" / "data.md").read_text("utf-8")
    parts = re.split(rf"^{'#' * level} (.+)$", text, flags=re.M)
    return {
        heading: re.split(r"^##? ", body, maxsplit=1, flags=re.M)[0]
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def cells(text):
    """The rows of the tables in a text, each a list of cells, headings left out."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if not set("".join(row)) <= set("-: ")]


def ticked(cell):
    return re.findall(r"`([^`]+)`", cell)


def files_with_table_access():
    return {
        file_of(name)
        for name in modules()
        if is_store(name)
        or (name not in ("aws.clients", "aws.transact") and (_calls(name, "dynamodb") or _calls(name, "put_if_absent")))
    }


def _calls(name, function):
    return any(
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == function for node in ast.walk(tree_of(name))
    )


def access_lines():
    return {heading: cells(body)[1:] for heading, body in sections(3).items() if heading.endswith(".py")}


def test_every_file_that_meets_the_table_has_its_section():
    assert set(access_lines()) == files_with_table_access()


def test_every_function_of_such_a_file_has_its_line_and_no_line_is_left_over():
    by_file = {file_of(name): name for name in modules()}
    for file, lines in access_lines().items():
        public = [
            node.name
            for node in tree_of(by_file[file]).body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        ]
        assert sorted(name for line in lines for name in ticked(line[1])) == sorted(public), file


def test_every_line_says_what_it_answers_how_and_what_that_costs():
    for file, lines in access_lines().items():
        for question, function, call, consistency, cost in lines:
            assert question and cost, f"{file} {function}"
            assert bool(call) == bool(consistency) or consistency == "memory", f"{file} {function}"


def prefixes_in_code():
    """`ORDER#` and the like, at the start of any text or template in the product."""
    found = set()
    for name in modules():
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"\A([A-Z]{1,9}#)", node.value))
    return found


def test_every_prefix_of_a_key_is_on_the_page_and_none_that_is_gone():
    text = (ROOT / "docs" / "data.md").read_text("utf-8")
    assert set(re.findall(r"`([A-Z]{1,9}#)", text)) == prefixes_in_code()


@pytest.mark.parametrize(
    "heading, names",
    [
        ("order", order_row._ORDER_NAMES),
        ("order line", order_row._LINE_NAMES),
        ("order refund", order_row._REFUND_NAMES),
    ],
)
def test_the_short_names_of_an_order_are_those_of_its_store(heading, names):
    listed = {ticked(row[0])[0]: ticked(row[1])[0] for row in cells(sections(3)[heading])[1:] if ticked(row[1])}
    not_renamed = {"lines", "takes", "refs", "rvs", "h", "fenced", "x", "l", "aps", "pap", "dis"}
    assert {short: name for short, name in listed.items() if short not in not_renamed} == {
        short: name for name, short in names.items()
    }


def documented_kinds():
    """Kind of row -> (pattern of its key, its attributes as patterns)."""
    kinds = {}
    for kind, pk, sk, *_ in cells(sections(2)["Rows"])[1:]:
        key = re.compile(f"{_pattern(ticked(pk)[0])} / {_pattern(ticked(sk)[0])}")
        attributes = {name for row in cells(sections(3)[kind])[1:] for name in ticked(row[0])}
        kinds[kind] = (key, [re.compile(_pattern(name)) for name in attributes])
    return kinds


def _pattern(text):
    numbered = {"<shard>": r"\d+", "<n>": r"\d+", "<nnnn>": r"\d{4}", "<nnnnnn>": r"\d{6}", "<page>": r"\d+"}
    return "".join(
        numbered.get(part, ".*") if part.startswith("<") else re.escape(part) for part in re.split(r"(<[^>]+>)", text)
    )


def test_every_row_of_a_whole_sale_is_described_and_every_description_has_a_row(stack, clock):
    play_everything(clock)
    kinds = documented_kinds()
    met = {}
    for row in all_rows():
        kind = next((kind for kind, (key, _) in kinds.items() if key.fullmatch(f"{row['pk']} / {row['sk']}")), None)
        assert kind, f"a row that the page does not know: {row['pk']} / {row['sk']}"
        met.setdefault(kind, set()).update(row.keys() - EVERYWHERE)
    assert set(met) == set(kinds)
    for kind, names in met.items():
        unknown = {name for name in names if not any(one.fullmatch(name) for one in kinds[kind][1])}
        assert unknown == set(), kind


@pytest.mark.parametrize("kind", sorted(set(sections(3)) - {one for one in sections(3) if one.endswith(".py")}))
def test_every_attribute_on_the_page_is_named_in_the_code(kind):
    code = "\n".join(path.read_text("utf-8") for path in modules().values())
    named = {name for row in cells(sections(3)[kind])[1:] for name in ticked(row[0])}
    gone = {name for name in named if not re.search(rf"\b{re.escape(name.partition('<')[0])}", code)}
    assert named and gone == set()


def all_rows():
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=settings.table_name())
    return [from_row(row) for page in pages for row in page["Items"]]


def reconcile_a_day(now):
    """Rows of a reconciliation as its own functions write them; the statement is made up."""
    from chalicelib.payments.model import StatementLine
    from chalicelib.reconciliation import store as reconciliations
    from chalicelib.reconciliation.model import Difference, Fee, Ours

    row = {
        "reconciliation_id": "rec_0000000000000000001", "provider": "stripe", "account_id": "pac_0000000000000000001",
        "day": "2026-03-01", "source": "file", "status": "awaiting_upload", "tries": 0, "next_try_at": now,
        "give_up_at": now, "created_at": now, "created_by": "key_op",
    }  # fmt: skip
    reconciliations.put_reconciliation(row, None)
    reconciliation_id = row["reconciliation_id"]
    reconciliations.start(reconciliation_id, etag="e", size=1, now=now, give_up_at=now, due=now)
    reconciliations.wait(reconciliation_id, why="no_statement", tries=1, next_try_at=now)
    line = StatementLine("payment", "txn", None, 1, "CNY", now)
    ours = Ours("paid:x", "payment", None, None, "txn", 2, "CNY", now)
    differences = [Difference("amount_differs", None, ours, line)]
    reconciliations.put_result(reconciliation_id, "0123456789abcdef", differences, [Fee("payment:t::CNY", 1, "CNY")])
    facts = {
        "run": "0123456789abcdef", "counts": {"amount_differs": 1}, "totals": [["CNY", 2, 1, 1, 0]], "differences": 1,
        "fee_pages": 1, "compared_at": now,
    }  # fmt: skip
    reconciliations.post(reconciliation_id, facts, now)
    reconciliations.note_answer(reconciliation_id, 1, answer="denied", by="key_op", now=now)
    reconciliations.settle(reconciliation_id, 1, {"action": "accept", "note": "n", "by": "key_op", "at": now})
    reconciliations.put_day(
        "stripe", row["account_id"], row["day"], reconciliation_id=reconciliation_id, seen=b"12345678"
    )
    reconciliations.complete(reconciliation_id, now)
    reconciliations.put_reconciliation({**row, "reconciliation_id": "rec_0000000000000000002", "status": "queued"}, now)
    reconciliations.fail("rec_0000000000000000002", "no_statement", now)


def _play_balance(now):
    """Movements of a balance, a top-up, an event of a low one, and the ledger's rows about all of it."""
    accounts.put_shop(shop.SHOP, "Demo", now)
    balance.set_low_balance(shop.SHOP, "CNY", 10**6)
    adjust(shop.SHOP, "CNY", 500, "cash", adjustment_id="a", by="key_t", now=now)
    paid = shop.place({shop.make_product(now, keys_in_stock=1, price_minor=100): 1}, now, provider="balance")
    request_refund(orders.get_order(paid.order_id), AskRefund(), is_operator=True, by="key_t", now=now)
    finish_refunds(paid.order_id, now)
    top_up = TopUp(new_id("top", now), shop.SHOP, 5, "CNY", "sandbox", now)
    top_up_store.put_top_up(top_up, now)
    top_up_store.put_session(top_up.top_up_id, Started("https://pay.example/cs_2", "cs_2"))
    watch_all(now)
    post_missing(now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prove_ledger, "FIRST_LOOK_BACK_DAYS", 2)
        prove_ledger.prove_ledger(now + 2 * 86_400)


def play_everything(clock):
    """Import, sale, reveal, refund, expiry, abandoned take, stray notice: at least one row of every kind."""
    now = clock.at
    made = Api(now).operator.post(
        "/v1/products", {"name": "Card", "price_minor": 100, "currency": "CNY"}, Idempotency_Key="one"
    )
    product_id = made.body["product_id"]
    Api(now).operator.patch(f"/v1/products/{product_id}", {"status": "on_sale", "delivery": {"mode": "auto"}})
    lines = b"code\n" + b"".join(b"CODE-%04d\n" % number for number in range(40)) + b"CODE-0001\n"
    uploads.imported(product_id, lines, now, supplier="Acme", unit_cost_minor=50, expires_at="2030-01-01T00:00:00Z")

    buyer = {"buyer": {"email": "a@example.org"}, "payment": {"provider": "sandbox", "return_url": "https://a.example"}}
    seen = shop.place({product_id: 2}, now, **buyer)
    shop.pay(seen, now)
    reveal_order(seen.order_id, by="key_t", source_ip="10.0.0.1", user_agent="t", now=now)
    given_back = shop.place({product_id: 1}, now)
    shop.pay(given_back, now)
    request_refund(orders.get_order(given_back.order_id), AskRefund(reason="r"), is_operator=False, by="key_t", now=now)
    finish_refunds(given_back.order_id, now)
    wrong = shop.place({product_id: 1}, now)
    shop.pay(wrong, now, amount_minor=99)
    late = shop.make_product(now, keys_in_stock=2, delivery={"mode": "delayed", "delay_minutes": 5})
    shop.pay(shop.place({late: 1}, now), now)
    shop.place({late: 1}, now)
    shop.open_account("stripe", secrets={"secret_key": "sk_test_1"})
    disputed = shop.place({product_id: 1}, now)
    shop.pay(disputed, now)
    facts = {"kind": "dispute_opened", "dispute": DisputeFacts("dp_1", "fraudulent", now + 86_400)}
    receive_notice(shop.paid_notice(disputed, event_id="dispute", **facts), now)
    sessions.put_session(seen.order_id, Started("https://pay.example/cs_1", "cs_1"), now)
    recount_held(now)
    _play_balance(now)
    reconcile_a_day(now)
    receive_notice(shop.paid_notice(seen, event_id="stray", payment_id="pay_0000000000000000", provider_txn="t"), now)
    orders.fence_take(order_id_for(shop.SHOP, "never placed"), "0000000000000", now)
    release_all_due(clock.advance(3_600))
