# One command each; every target does the set-up it needs. `make help` lists them.

# The first Python that is new enough; say PYTHON=… for another.
PYTHON ?= $(shell for one in python3 python3.13 python3.12 python3.11; do \
	$$one -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$one && break; done)
PORT ?= 8000
BACKEND_PORT ?= 4566
SIMULATOR_PORT ?= 8100
LOCAL ?= .local
STAGE ?= prod
REGION ?=
SCOPE ?= operator
SHOP ?=
TESTS ?= tests

# Debian ships Python without the part that makes virtual environments: fetch it, with rights, or say what to do.
ENSURE_VENV = $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || infra/local/install-venv.sh $(PYTHON)

VENV := .venv/bin
BACKEND := .local/ministack-venv
CHECKOV := .local/checkov-venv

.DEFAULT_GOAL := help
.PHONY: help setup run reset demo test coverage bench check check-infra package deploy api-key revoke-key format clean

help: ## Show what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready $(BACKEND)/.ready ## Install everything into .venv and .local (needs Python 3.11+ and nothing else)

.venv/.ready: requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 is needed; say PYTHON=/path/to/python3.11"; exit 1; }
	@echo "==> 1/2 installing the product and its tools into .venv (a minute or two, once)"
	@test -x $(VENV)/python || { $(ENSURE_VENV); $(PYTHON) -m venv .venv; }
	@$(VENV)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(BACKEND)/.ready: requirements-local.txt
	@echo "==> 2/2 installing the embedded backend into $(BACKEND)"
	@test -x $(BACKEND)/bin/python || { $(ENSURE_VENV); $(PYTHON) -m venv $(BACKEND); }
	@$(BACKEND)/bin/python -m pip install --disable-pip-version-check -r requirements-local.txt
	@touch $@

run: setup ## The whole product on 127.0.0.1:8000 with a demo shop; Ctrl-C stops, the data is kept
	@$(VENV)/python -m infra.local.run --port $(PORT) --backend-port $(BACKEND_PORT) \
	  --simulator-port $(SIMULATOR_PORT) --dir $(LOCAL)

reset: ## Forget everything `make run` kept
	@rm -rf $(LOCAL)/state $(LOCAL)/simulator $(LOCAL)/credentials.json $(LOCAL)/run.log $(LOCAL)/backend.log \
	  $(LOCAL)/simulator.log
	@echo "all local data is gone; make run starts afresh"

demo: setup ## Tell the whole story over HTTP against a running `make run`; fails loudly on any wrong step
	@$(VENV)/python -m infra.local.demo --credentials $(LOCAL)/credentials.json

test: setup ## The whole test suite (TESTS=path for a part)
	@$(VENV)/python -m pytest -n 2 --dist worksteal $(TESTS)

coverage: setup ## The same suite with the lines it never ran, by file
	@$(VENV)/python -m pytest -n 2 --dist worksteal -q --cov=app --cov=chalicelib --cov=infra --cov-branch \
	  --cov-report=term-missing:skip-covered $(TESTS)

bench: setup ## Measure requests, write units, conflicts, import speed, cold start against their budgets
	@$(VENV)/python -m benchmarks

check: setup ## Formatting, lint, guards and templates
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/python -m pytest tests/guards tests/infra/test_templates.py
	@$(VENV)/cfn-lint infra/artifacts.yaml infra/data.yaml infra/queues.yaml infra/edge.yaml
	@if test -x $(CHECKOV)/bin/checkov; then $(MAKE) --no-print-directory check-infra; fi

check-infra: setup ## Security rules for the templates (checkov; installs itself into its own place, once)
	@test -x $(CHECKOV)/bin/checkov || { echo "==> installing checkov into $(CHECKOV) (large)"; \
	  $(PYTHON) -m venv $(CHECKOV) && $(CHECKOV)/bin/python -m pip install --disable-pip-version-check -q -r infra/requirements-checkov.txt; }
	@$(VENV)/python -m infra.build --stage prod
	@$(VENV)/python -m infra.lint --stage prod
	@$(CHECKOV)/bin/checkov --config-file infra/checkov.yaml

package: setup ## Build what is deployed into .build/<STAGE>, checked (STAGE=prod)
	@$(VENV)/python -m infra.build --stage $(STAGE)
	@$(VENV)/python -m infra.lint --stage $(STAGE)

deploy: package ## Deploy to AWS (STAGE=prod REGION=eu-central-1); needs the AWS CLI and credentials
	@$(VENV)/python -m infra.deploy --stage $(STAGE) --region "$(REGION)"

api-key: setup ## Issue an API key (STAGE=prod REGION=… SCOPE=operator, or SCOPE=shop SHOP=<id>; STAGE=local: of `make run`)
	@$(VENV)/python -m infra.issue_key --stage $(STAGE) --region "$(REGION)" --backend-port $(BACKEND_PORT) \
	  --scope $(SCOPE) --shop "$(SHOP)"

revoke-key: setup ## Switch off an API key (STAGE=prod REGION=…), asked for, read from standard input, or in KEY
	@$(VENV)/python -m infra.revoke_key --stage $(STAGE) --region "$(REGION)" --backend-port $(BACKEND_PORT)

format: setup ## Format the code
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

clean: ## Remove what can be built again (keeps local data)
	@rm -rf .build .venv $(BACKEND) $(CHECKOV) .pytest_cache .ruff_cache .hypothesis
