"""Refusals of imports: what makes a call fail. What makes a *line* or a *file* fail is data, see `model.py`.

NotFound
└── ImportNotFound
InvalidRequest
├── BatchExpired         the batch's keys are past their expiry
├── FileTooLarge
└── UnreadableFile       not text of ours: empty, compressed, UTF-16, a spreadsheet
Conflict
└── NotUploaded          started before the file had arrived
"""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest, NotFound


class ImportNotFound(NotFound):
    code = "imports.not_found"
    sentence = "There is no such import."


class BatchExpired(InvalidRequest):
    code = "imports.batch_expired"
    sentence = "The batch expires in the past: its keys could never be sold."


class FileTooLarge(InvalidRequest):
    code = "imports.file_too_large"
    status = 413
    sentence = "The file is larger than 200 MB; split it."


class UnreadableFile(InvalidRequest):
    """Raised at start, after a look at the first bytes; the file may be uploaded again under the same import."""

    code = "imports.unreadable_file"
    sentence = "The file is not plain text in UTF-8 or GBK."


class NotUploaded(Conflict):
    code = "imports.not_uploaded"
    retry = "later"
    sentence = "The file has not been uploaded yet."
