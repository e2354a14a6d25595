"""What payments do outside of a request: the sandbox's delayed and repeated notices.

Functions: on_sandbox_notice_due (queue sandbox-notice-due).
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.core import clock, settings
from chalicelib.edge.worker import each_message
from chalicelib.payments import sandbox

bp = Blueprint(__name__)


@bp.on_sqs_message(queue=settings.queue_name("sandbox-notice-due"), batch_size=10, name="on_sandbox_notice_due")
def on_sandbox_notice_due(event: Any) -> dict:
    """Send the sandbox notices whose time has come. Repeating a message repeats a notice, which is harmless."""
    records = event.to_dict()["Records"]
    return each_message(records, lambda message: sandbox.send_due_notice(message, clock.now()), "sandbox-notice-due")
