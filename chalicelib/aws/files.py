"""Files of imports, in the stage's bucket. An upload goes straight to S3 and never through a function.

    uploads/<import_id>            the file an operator sent: plain keys, removed as soon as it is imported
    reports/<import_id>.csv        the refused lines: numbers and reasons, never a key

Reading is bound to the version seen at the start (its ETag): a file that was replaced afterwards is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO

from chalicelib.aws.clients import s3
from chalicelib.core.settings import bucket_name

UPLOAD_SECONDS = 3_600
DOWNLOAD_SECONDS = 900
BLOCK_BYTES = 256 * 1024
_ABSENT = {"404", "NoSuchKey", "NotFound", "403", "AccessDenied"}  # without leave to list, S3 says 403 for 'not there'


class FileGone(Exception):
    """The file is not there any more, or is not the one that was looked at when the import was started."""


@dataclass(frozen=True)
class Uploaded:
    size: int
    etag: str


def upload_link(import_id: str, content_type: str) -> dict[str, Any]:
    """Where and how to send the file: `{url, method, headers}`, good for an hour. No request is made."""
    url = s3().generate_presigned_url(
        "put_object",
        Params={"Bucket": bucket_name(), "Key": f"uploads/{import_id}", "ContentType": content_type},
        ExpiresIn=UPLOAD_SECONDS,
        HttpMethod="PUT",
    )
    return {"url": url, "method": "PUT", "headers": {"Content-Type": content_type}}


def find_upload(import_id: str) -> Uploaded | None:
    """Size and version of the uploaded file without reading it, or None when nothing was uploaded."""
    try:
        head = s3().head_object(Bucket=bucket_name(), Key=f"uploads/{import_id}")
    except s3().exceptions.ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
    return Uploaded(head["ContentLength"], head["ETag"])


def read_upload(import_id: str, etag: str, start: int, length: int | None = None) -> Iterator[bytes]:
    """The bytes of an upload from `start`, in blocks, so that memory stays flat whatever the size.

    Raises: FileGone
    """
    if length == 0:
        return
    end = "" if length is None else start + length - 1
    try:
        answer = s3().get_object(
            Bucket=bucket_name(), Key=f"uploads/{import_id}", Range=f"bytes={start}-{end}", IfMatch=etag
        )
    except s3().exceptions.ClientError as error:
        if error.response["Error"]["Code"] in {*_ABSENT, "PreconditionFailed", "412", "InvalidRange"}:
            raise FileGone() from None
        raise
    with closing(answer["Body"]) as body:
        yield from body.iter_chunks(BLOCK_BYTES)


def remove_upload(import_id: str) -> None:
    """Delete the uploaded file; deleting what is gone is fine."""
    s3().delete_object(Bucket=bucket_name(), Key=f"uploads/{import_id}")


def put_report(import_id: str, report: BinaryIO) -> None:
    """Store the report of refused lines; doing it again replaces it with the same."""
    s3().put_object(
        Bucket=bucket_name(), Key=f"reports/{import_id}.csv", Body=report, ContentType="text/csv; charset=utf-8"
    )


def report_link(import_id: str) -> str:
    """A link to download the report, good for fifteen minutes. No request is made."""
    return s3().generate_presigned_url(
        "get_object",
        Params={
            "Bucket": bucket_name(),
            "Key": f"reports/{import_id}.csv",
            "ResponseContentDisposition": f'attachment; filename="{import_id}-refused.csv"',
        },
        ExpiresIn=DOWNLOAD_SECONDS,
    )
