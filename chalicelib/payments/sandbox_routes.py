"""The sandbox's own address, called by the buttons of its pay page; absent on stages that take real money."""

from __future__ import annotations

from chalice import Blueprint
from pydantic import BaseModel, ConfigDict, Field

from chalicelib.core import settings
from chalicelib.core.clock import iso
from chalicelib.core.errors import NotFound
from chalicelib.edge.http import Call, endpoint
from chalicelib.payments.errors import NoSuchPayment
from chalicelib.payments.model import SandboxOutcome

bp = Blueprint(__name__)


class PlayBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    outcome: SandboxOutcome = Field(description="What the imagined buyer does.")


class PlayAnswer(BaseModel):
    payment_id: str
    outcome: SandboxOutcome
    sent: int = Field(description="Notices that were sent and taken at once; others follow by themselves.")
    notice_at: str = Field(description="When the first notice is sent: now, or after the end of the hold.")


@endpoint(
    bp,
    "POST",
    "/sandbox/payments/{payment_id}",
    body=PlayBody,
    answer=PlayAnswer,
    refusals=(NoSuchPayment,),
)
def play_sandbox_payment(call: Call, payment_id: str) -> PlayAnswer:
    """Pay, fail, pay late, pay twice or pay the wrong amount on the sandbox; it answers us with a signed notice."""
    if not settings.has_sandbox():
        raise NotFound()
    from chalicelib.payments import sandbox

    played = sandbox.play(payment_id, call.body.outcome, base_url=call.base_url, now=call.now)
    return PlayAnswer(
        payment_id=payment_id, outcome=call.body.outcome, sent=played.sent, notice_at=iso(played.notice_at)
    )
