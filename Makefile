PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# One more than there are cores, at most 4: tests wait for processes of their own a fifth of the time.
WORKERS = $(shell $(BIN)/python -c "import os; print(min(4, len(os.sched_getaffinity(0)) + 1))")

.DEFAULT_GOAL := help
.PHONY: help demo docs test light torture coverage check format wheel image clean

help: ## Show every target with a line
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "aeflow needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: $(INSTALLED) ## Train and evaluate on the bundled chest X-rays, write runs/demo/report.html and runs/demo/val/report.html
	@$(BIN)/aeflow train sample --out runs/demo --region lungs --looks-for diffuse --overwrite
	@$(BIN)/aeflow evaluate runs/demo sample --overwrite
	@$(BIN)/aeflow evaluate runs/demo sample --split val --out runs/demo/val --overwrite

docs: $(INSTALLED) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: check ## Check the code, then run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not timing" -n $(WORKERS) --dist worksteal
	$(BIN)/python -m pytest -m timing

light: $(INSTALLED) ## Install the base package alone into a new environment: its size, and its scores
	$(BIN)/python scripts/check_base_install.py

torture: $(INSTALLED) ## Kill commands at every event on the file system, flip bits, fill disks, read hostile files: hours
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m torture -n $(WORKERS)

coverage: $(INSTALLED) ## All tests, with the lines of each module that they run: half as long again
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not timing" -n $(WORKERS) --dist worksteal --cov

check: $(INSTALLED) ## Style (ruff), types (mypy strict) and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python scripts/import_floors.py --check

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(INSTALLED) ## Build the wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

image: ## Build the container image with podman or buildah
	@tool=$$(command -v podman || command -v buildah) || { echo "neither podman nor buildah is installed" >&2; exit 2; }; \
	  $$tool build --format docker --tag aeflow --file Containerfile .  # OCI's own format drops the health check

clean: ## Remove the environment, runs and everything built
	rm -rf .venv runs dist build site .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
