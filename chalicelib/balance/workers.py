"""What balances do outside of a request: unpaid top-ups are asked about, low balances are told. Either timer suffices
alone; the stream's part is `ledger/workers.py`.
"""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.aws.due import list_due
from chalicelib.balance.ask_top_ups import ask_top_up
from chalicelib.balance.watch_low import watch_all
from chalicelib.core import clock
from chalicelib.edge.observe import log
from chalicelib.edge.worker import each_due

bp = Blueprint(__name__)


@bp.schedule("rate(1 minute)", name="every_minute_ask_top_ups")
def every_minute_ask_top_ups(event):
    """Ask providers about unpaid top-ups whose turn it is: a lost notice costs minutes, not the money."""
    now = clock.now()
    done, failed = each_due(
        list_due("topup", now), lambda row: ask_top_up(row["pk"].removeprefix("TOPUP#"), now)
    )  # fmt: skip
    if done or failed:
        log.info("top-ups asked about", extra={"done": done, "failed": failed})


@bp.schedule("rate(1 minute)", name="every_minute_watch_balances")
def every_minute_watch_balances(event):
    """Tell shops of low balances the stream did not tell of."""
    told = watch_all(clock.now())
    if told:
        log.info("low balances told", extra={"told": told})
