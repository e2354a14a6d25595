"""What imports do outside of a request.

Functions: on_import_started (queue import-started), on_import_chunk (queue import-chunk), every_minute_resume_imports.
Messages carry ids and numbers of chunks, never a line of a file.
"""

from __future__ import annotations

from typing import Any

from chalice import Blueprint

from chalicelib.core import clock, settings
from chalicelib.edge.observe import log
from chalicelib.edge.worker import each_message
from chalicelib.imports.import_chunk import import_chunk
from chalicelib.imports.plan_import import plan_import
from chalicelib.imports.resume_imports import resume_imports

bp = Blueprint(__name__)


@bp.on_sqs_message(queue=settings.queue_name("import-started"), batch_size=1, name="on_import_started")
def on_import_started(event: Any) -> dict:
    """Plan the import and send its chunks off."""
    records = event.to_dict()["Records"]
    return each_message(records, lambda message: plan_import(message["import_id"], clock.now()), "import-started")


@bp.on_sqs_message(queue=settings.queue_name("import-chunk"), batch_size=1, name="on_import_chunk")
def on_import_chunk(event: Any) -> dict:
    """Turn one chunk into stock."""
    records = event.to_dict()["Records"]
    return each_message(
        records, lambda message: import_chunk(message["import_id"], message["chunk"], clock.now()), "import-chunk"
    )


@bp.schedule("rate(1 minute)", name="every_minute_resume_imports")
def every_minute_resume_imports(event: Any) -> dict:
    """Push on imports that stand still."""
    looked_at = resume_imports(clock.now())
    log.info("imports resumed", extra={"looked_at": looked_at})
    return {"looked_at": looked_at}
