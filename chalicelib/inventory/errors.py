"""Refusals of inventory.

Conflict
└── OutOfStock     fewer free keys than asked for
NotFound
└── LotNotFound    keys named a lot that was never opened
"""

from __future__ import annotations

from chalicelib.core.errors import Conflict, NotFound


class OutOfStock(Conflict):
    """Raised by `take` after a consistent look at all shelves; nothing was taken."""

    code = "inventory.out_of_stock"
    retry = "later"
    sentence = "Fewer keys are in stock than the order asks for."


class LotNotFound(NotFound):
    """Raised when keys are added or returned to a lot that was never opened."""

    code = "inventory.lot_not_found"
    sentence = "There is no such lot."
