"""HTTP for products: operators manage them, shops see what is on sale."""

from __future__ import annotations

from chalice import Blueprint

from chalicelib.catalog import store
from chalicelib.catalog.errors import IllegalStatus, NoSuchProduct, ProductChanged
from chalicelib.catalog.model import NewProduct, Product, ProductChange, ProductPage, ProductQuery, StockAnswer
from chalicelib.core.clock import iso
from chalicelib.core.ids import new_id
from chalicelib.edge.cursor import from_cursor, to_cursor
from chalicelib.edge.errors import BadCursor, IdempotencyMismatch
from chalicelib.edge.http import Call, endpoint
from chalicelib.edge.idempotency import REPLAYED, resource_for

bp = Blueprint(__name__)


@endpoint(
    bp, "POST", "/v1/products", scopes=("operator",), body=NewProduct, answer=Product, status=201, creates=True,
    refusals=(IdempotencyMismatch,),
)  # fmt: skip
def post_product(call: Call):
    """Create a product as a draft; it goes on sale by PATCH with `{"status": "on_sale"}`."""
    from chalicelib.catalog.publish_product import create_product

    product_id, is_replayed = resource_for(call, new_id("prd", call.now))
    product = create_product(call.body, product_id, call.now)
    return to_answer(product), REPLAYED if is_replayed else {}


@endpoint(
    bp,
    "GET",
    "/v1/products",
    scopes=("operator", "shop"),
    query=ProductQuery,
    answer=ProductPage,
    refusals=(BadCursor,),
)
def get_products(call: Call):
    """List products, oldest first. A shop sees those on sale; a page may be short and still have a next one."""
    binding = f"products:{call.caller.scope}"
    products, last = store.list_products(from_cursor(call.query.cursor, binding), call.query.limit)
    seen = [one for one in products if call.caller.scope == "operator" or one["status"] == "on_sale"]
    return ProductPage(
        products=[to_answer(one) for one in seen], next_cursor=to_cursor(last, binding) if last else None
    )


@endpoint(
    bp, "GET", "/v1/products/{product_id}", scopes=("operator", "shop"), answer=Product, refusals=(NoSuchProduct,)
)
def get_product(call: Call, product_id: str):
    """Read one product. A shop finds only products on sale."""
    product = store.get_product(product_id)
    if call.caller.scope != "operator" and product["status"] != "on_sale":
        raise NoSuchProduct()
    return to_answer(product)


@endpoint(
    bp, "PATCH", "/v1/products/{product_id}", scopes=("operator",), body=ProductChange, answer=Product,
    refusals=(NoSuchProduct, IllegalStatus, ProductChanged),
)  # fmt: skip
def patch_product(call: Call, product_id: str):
    """Change a product; orders already placed keep the terms they were placed under."""
    from chalicelib.catalog.publish_product import change_product

    return to_answer(change_product(product_id, call.body, call.now))


@endpoint(
    bp, "GET", "/v1/products/{product_id}/stock", scopes=("operator",), answer=StockAnswer, refusals=(NoSuchProduct,)
)
def get_stock(call: Call, product_id: str):
    """Live stock figures. `available` is exact at once; the split between held and sold follows within seconds."""
    from chalicelib.inventory.store import read_stock

    store.get_product(product_id)
    stock = read_stock(product_id, call.now)
    return StockAnswer(
        product_id=product_id, imported=stock.imported, total=stock.total, available=stock.available, held=stock.held,
        sold=stock.sold, expired=stock.expired, disabled=stock.disabled, quarantined=stock.quarantined,
    )  # fmt: skip


def to_answer(product: dict) -> Product:
    """A product row as the API shows it."""
    return Product.model_validate(
        {
            **{name: product.get(name) for name in Product.model_fields},
            "created_at": iso(product["created_at"]),
            "updated_at": iso(product["updated_at"]),
        }
    )
