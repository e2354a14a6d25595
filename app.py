"""Creates the app and registers every blueprint. Nothing else.

A domain's HTTP calls live in its `routes.py` (or `…_routes.py`), what reacts to queues, the table stream and timers
in its `workers.py`; a file of that name is found here. Only the function `api` starts through this module: Lambda
starts a worker by its own module, so nothing here may be needed by a worker. In Lambda the workers are therefore left
out, which is a third of what a new copy of `api` would load; packaging and the local run register all of them.
"""

from __future__ import annotations

import importlib
import os
import pkgutil

from chalice import Chalice

import chalicelib

app = Chalice(app_name="kamiflow", configure_logs=False)
_ROUTES = (".routes", "_routes")
_WANTED = _ROUTES if "AWS_LAMBDA_FUNCTION_NAME" in os.environ else (*_ROUTES, ".workers")


def _blueprint_modules() -> list[str]:
    names = []
    for domain in pkgutil.iter_modules(chalicelib.__path__, "chalicelib."):
        folder = [f"{place}/{domain.name.rpartition('.')[2]}" for place in chalicelib.__path__]
        for module in pkgutil.iter_modules(folder, f"{domain.name}."):
            if module.name.endswith(_WANTED):
                names.append(module.name)
    return sorted(names)


for _name in _blueprint_modules():
    app.register_blueprint(importlib.import_module(_name).bp)
