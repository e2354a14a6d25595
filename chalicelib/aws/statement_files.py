"""Files of statements, in the stage's bucket. An upload goes straight to S3 and never through a function.

    statements/<reconciliation_id>    a provider's statement as an operator downloaded it

Reading is bound to the version seen at the start (its ETag): a file that was replaced afterwards is not read.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from chalicelib.aws.clients import s3
from chalicelib.aws.files import UPLOAD_SECONDS, FileGone, Uploaded
from chalicelib.core.settings import bucket_name

_CONTENT_TYPE = "application/octet-stream"  # CSV, ZIP or gzip: the adapter looks into it
_ABSENT = {"404", "NoSuchKey", "NotFound", "403", "AccessDenied"}  # without leave to list, S3 says 403 for 'not there'


def statement_link(reconciliation_id: str) -> dict[str, Any]:
    """Where and how to send the file: `{url, method, headers}`, good for an hour. No request is made."""
    url = s3().generate_presigned_url(
        "put_object",
        Params={"Bucket": bucket_name(), "Key": f"statements/{reconciliation_id}", "ContentType": _CONTENT_TYPE},
        ExpiresIn=UPLOAD_SECONDS,
        HttpMethod="PUT",
    )
    return {"url": url, "method": "PUT", "headers": {"Content-Type": _CONTENT_TYPE}}


def find_statement(reconciliation_id: str) -> Uploaded | None:
    """Size and version of the uploaded file without reading it, or None when nothing was uploaded."""
    try:
        head = s3().head_object(Bucket=bucket_name(), Key=f"statements/{reconciliation_id}")
    except s3().exceptions.ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
    return Uploaded(head["ContentLength"], head["ETag"])


def read_statement(reconciliation_id: str, etag: str) -> bytes:
    """The whole file; its size was looked at when it was started.

    Raises: FileGone
    """
    try:
        answer = s3().get_object(Bucket=bucket_name(), Key=f"statements/{reconciliation_id}", IfMatch=etag)
    except s3().exceptions.ClientError as error:
        if error.response["Error"]["Code"] in {*_ABSENT, "PreconditionFailed", "412"}:
            raise FileGone() from None
        raise
    with closing(answer["Body"]) as body:
        return body.read()
