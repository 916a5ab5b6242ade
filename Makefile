# `make demo` and `make test` need nothing but Python 3.11-3.13, make, and a package index (and npm where the
# internet is not reached beyond package registries).

VENV := .venv
BIN := $(VENV)/bin
# For two cores: many tests wait, for a lease that must expire or for a page.
PYTEST_WORKERS ?= 3
# A worker that dies fails the run at once: pytest-xdist loses count of what its replacement should run, and waits.
PYTEST := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -q

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo serve test test-fast check bench docs notebook reproduce chaos fuzz containers machine pictures lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: ## Make .venv with everything that training and serving need
	@sh scripts/setup.sh $(VENV) train

setup-dev: ## The same with everything that development needs
	@sh scripts/setup.sh $(VENV) dev

demo: setup ## Train sigmoid and ReLU at depths 1 to 3, compare, read a digit
	@$(BIN)/epochd demo

serve: setup ## Serve on http://127.0.0.1:8000 until Ctrl-C
	@exec $(BIN)/epochd serve

test: setup-dev ## Run every test
	@sh scripts/browser.sh
	@$(BIN)/epochd data fetch mnist --data-dir $(VENV)/data
	$(PYTEST)

test-fast: setup-dev ## Run the tests that start nothing, on SQLite
	$(PYTEST) -m "not slow"

check: setup-dev ## Lint, types, imports, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml service migrations
	$(BIN)/python scripts/audit.py
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

bench: setup-dev ## Measure the budgets, as ratios, beside other servers: writes benchmarks/results.md
	@$(BIN)/epochd data fetch mnist --data-dir $(VENV)/data
	$(BIN)/python -m benchmarks --write

docs: setup-dev ## Build the documentation: build/docs/index.html
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html --doctree-dir build/doctrees docs build/docs

notebook: setup-dev ## Execute docs/notebook.ipynb anew
	@$(BIN)/epochd data fetch mnist --data-dir $(VENV)/data
	$(BIN)/python -W ignore scripts/notebook.py --data-dir $(VENV)/data

reproduce: setup-dev ## The article's question over 30 seeds: writes docs/reproduction.md (SEEDS=30)
	$(BIN)/epochd reproduce --data-dir $(VENV)/data --output docs --seeds $(or $(SEEDS),30)

chaos: setup-dev ## Kill everything at random moments and check that nothing is lost (ROUNDS=20 SEED= ENGINE=)
	$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),20) $(if $(SEED),--seed $(SEED)) $(if $(ENGINE),--engine $(ENGINE))

fuzz: setup-dev ## Send what should be refused, and all that the API describes (CASES=50000 SEED= PART=pictures|requests|contract)
	$(BIN)/python -m tests.fuzz --cases $(or $(CASES),50000) $(if $(SEED),--seed $(SEED)) $(if $(PART),--part $(PART))

containers: setup-dev ## Build the images and try them with Docker Compose: start, kill, Ray, backup (takes minutes)
	@$(BIN)/epochd data fetch mnist --data-dir $(VENV)/data
	EPOCHD_TEST_CONTAINERS=1 $(BIN)/python -m pytest -q tests/acceptance/test_compose.py

machine: setup-dev ## Install, start and upgrade the units for systemd in a container of systemd-nspawn (root; takes minutes)
	@$(BIN)/epochd data fetch mnist --data-dir $(VENV)/data
	EPOCHD_TEST_MACHINE=1 $(BIN)/python -m pytest -q tests/acceptance/test_machine.py

pictures: setup-dev ## Take the pictures of the page: writes docs/images (needs Chromium)
	@sh scripts/browser.sh
	@$(BIN)/python -m tests.acceptance.page.pictures

lock: setup-dev ## Pin the newest dependencies that fit together
	@for name in base train ray dev; do \
		case $$name in base) extras="--extra page" ;; train) extras="--extra train --extra page" ;; ray) extras="--extra train --extra page --extra ray" ;; dev) extras="--extra train --extra page --extra figures --extra mlflow --extra parquet --extra tensorboard --extra otel --extra ray --extra docs --extra dev" ;; esac; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config --upgrade \
			--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
			$$extras pyproject.toml --output-file requirements/$$name.txt || exit 1; \
	done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config --upgrade \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--group build --output-file requirements/build.txt

clean: ## Remove .venv and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
