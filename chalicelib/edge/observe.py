"""Logs and metrics. What may be written: ids, counts, codes, durations. Never bodies, headers, keys, buyer data or
exception texts.

An exception's own text can carry a caller's value, so only its type and where it was raised are logged.
"""

from __future__ import annotations

import traceback
from typing import Any

from aws_lambda_powertools.logging import Logger

from chalicelib.core.settings import stage

log = Logger(service="kamiflow", log_uncaught_exceptions=False)


def failure_facts(error: BaseException) -> dict[str, Any]:
    """What a log may say of an unexpected exception: type, AWS code and operation, and the frames without their
    values.
    """
    response = getattr(error, "response", None)
    facts: dict[str, Any] = {
        "error_type": type(error).__name__,
        "frames": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
                   for frame in traceback.extract_tb(error.__traceback__)[-8:]],
    }  # fmt: skip
    if isinstance(response, dict):
        facts["aws_code"] = response.get("Error", {}).get("Code")
        facts["aws_operation"] = getattr(error, "operation_name", None)
    return facts


def count(metric: str, value: int = 1, **dimensions: str) -> None:
    """Count a business event as a CloudWatch embedded metric. Dimension values are names of ours, never a caller's
    text.
    """
    from aws_lambda_powertools.metrics import MetricUnit, single_metric

    with single_metric(name=metric, unit=MetricUnit.Count, value=value, namespace=f"Kamiflow/{stage()}") as one:
        for name, text in dimensions.items():
            one.add_dimension(name=name, value=text)
