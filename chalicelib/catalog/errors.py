"""Refusals of the catalogue."""

from __future__ import annotations

from chalicelib.core.errors import Conflict, InvalidRequest, NotFound


class NoSuchProduct(NotFound):
    code = "catalog.product_not_found"
    sentence = "There is no such product."


class UnknownProduct(InvalidRequest):
    """A product named inside a body: the address exists, the field is wrong."""

    code = "catalog.unknown_product"
    sentence = "There is no such product."


class NotOnSale(Conflict):
    code = "catalog.not_on_sale"
    sentence = "This product is not on sale."


class IllegalStatus(Conflict):
    code = "catalog.illegal_status"
    sentence = "A product cannot go from its present status to this one."


class ProductChanged(Conflict):
    code = "catalog.product_changed"
    retry = "same_request"
    sentence = "The product was changed at the same moment; send the change again."
