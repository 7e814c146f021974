# Every target sets up what it needs: only Python ≥ 3.11, make and a package index are asked for.
PYTHON ?= python3
UV_VERSION := 0.13.9

# One more than there are processors, for tests wait now and then; more than 4 only get in each other's way.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
PACKAGES := $(VENV)/.packages

# A start reads what was compiled before, whatever the machine's environment says: the tests start a gateway a thousand times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check bench docs lock clean

run: $(STAMP)
	$(BIN)/agent-gateway demo $(if $(PORT),--port $(PORT))

test: check
	$(BIN)/python -m tests.kit.servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

bench: $(STAMP)
	@for benchmark in benchmarks/*.py; do echo "$$benchmark"; $(BIN)/python $$benchmark || exit 1; done

# The site is build/site, which needs no server to be looked at; before it, the pages that are made from the program.
docs: $(STAMP)
	$(BIN)/python -m reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The lock files hold names, versions and hashes, never the host they were read from.
lock: $(STAMP)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCK_FLAGS) --output-file requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml $(LOCK_FLAGS) --constraints requirements/dev.txt --output-file requirements/run.txt
	$(BIN)/uv pip compile requirements/deploy.in $(LOCK_FLAGS) --constraints requirements/dev.txt --output-file requirements/deploy.txt

LOCK_FLAGS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

clean:
	rm -rf $(VENV) build dist web/node_modules agent_gateway/dashboard/assets .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The dashboard's page is built on the way (hatch_build.py), with the machine's Node where it is new enough, else with one from the package index.
PAGE := hatch_build.py $(shell find web -name node_modules -prune -o -type f -print)
NODE := $(shell node --print 'const [major, minor] = process.versions.node.split(".").map(Number); major === 20 ? minor >= 19 : major === 22 ? minor >= 12 : major > 22' 2>/dev/null)

$(STAMP): $(PACKAGES) pyproject.toml $(PAGE)
	$(BIN)/python -m pip install --quiet --no-deps $(if $(filter true,$(NODE)),--no-build-isolation) --editable .
	@touch $(STAMP)

# The lock is all that is needed; pip alone would compile it with one processor.
$(PACKAGES): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --no-compile --require-hashes --requirement requirements/dev.txt
	-@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	@touch $(PACKAGES)
