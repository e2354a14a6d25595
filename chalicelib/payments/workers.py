"""What payments do outside of a request: notices that came before their order, and the sandbox's delayed ones.

Functions: every_minute_match_notices (timer), on_sandbox_notice_due (queue sandbox-notice-due).
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.aws.due import list_due
from chalicelib.core import clock, settings
from chalicelib.edge.observe import count, log
from chalicelib.edge.worker import each_due, each_message
from chalicelib.payments import sandbox

bp = Blueprint(__name__)


@bp.on_sqs_message(queue=settings.queue_name("sandbox-notice-due"), batch_size=10, name="on_sandbox_notice_due")
def on_sandbox_notice_due(event: Any) -> dict:
    """Send the sandbox notices whose time has come. Repeating a message repeats a notice, which is harmless."""
    records = event.to_dict()["Records"]
    return each_message(records, lambda message: sandbox.send_due_notice(message, clock.now()), "sandbox-notice-due")


@bp.schedule("rate(1 minute)", name="every_minute_match_notices")
def every_minute_match_notices(event: Any) -> None:
    """Look again for the orders of notices that came first; after a day an alarm calls for a person."""
    from chalicelib.payments.receive_notice import match_notice

    now = clock.now()

    def match(row: dict[str, str]) -> None:
        if match_notice(row["pk"], row["sk"], now) == "abandoned":
            log.error("notice without an order", extra={"notice": row["pk"]})
            count("NoticeWithoutOrder")

    done, failed = each_due(list_due("notice", now), match)
    log.info("unmatched notices looked through", extra={"done": done, "failed": failed})
