# Everything that a person does in a clone. Each target first installs what it needs. A second call starts at once.
#
# PYTHON=...  the interpreter for .venv (3.11 or newer)     ARGS=...  passed on, as in: make demo ARGS="--dataset ml-100k"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
INSTALLED := .venv/.installed
# Tests that need only Python run on all cores at once. Those that start processes wait more than they compute: one more
# of them than there are cores runs at once, four at most, each worker with its own broker. No example of a docstring or a
# page does that, so only tests/ is read for them. Those that need a machine for themselves come last.
PROCESSES := kafka or mlflow or browser or e2e
SHARED := --dist loadfile --no-loadscope-reorder
WAITING := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$(( cores < 4 ? cores + 1 : 4 )))
ALONE := $(shell grep -rlE 'pytest\.mark\.alone' tests)
# Without compiled files, every process would compile torch's Python code again, for ten seconds. .gitignore has them.
unexport PYTHONDONTWRITEBYTECODE
FORMATTED := recdistill services tests references benchmarks tools docs conftest.py

.PHONY: help install demo test test-fast soak soak-attack soak-live soak-crash pictures lint format bench kafka docs setup-kafka setup-browser setup-deploy clean

help:  ## Show this list
	@echo "recdistill makes a small, quick ranking model (the student) from a large one (the teacher)."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Try: make demo      Help for the command line: .venv/bin/recdistill --help'

install: $(INSTALLED)  ## Make .venv with everything that the project and its tests need

$(INSTALLED): pyproject.toml constraints.txt tools/setup-python.sh tools/common.sh
	@PYTHON="$(PYTHON)" tools/setup-python.sh
	@touch $@

demo: $(INSTALLED)  ## Run the whole product in one terminal (ARGS="--dataset ml-100k --keep-serving")
	@$(BIN)/recdistill demo $(ARGS)

test: $(INSTALLED) setup-kafka setup-browser setup-deploy  ## Run every test, on a real Kafka broker and a real MLflow server (ARGS="tests/stream -x")
ifneq ($(ARGS),)
	@$(BIN)/python -m pytest --no-skip $(ARGS)
else
	@failed=0; \
	echo "== tests that need only Python, on every core"; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --no-skip -m "not ($(PROCESSES) or alone)" -n auto $(SHARED) || failed=$$?; \
	echo "== tests that run brokers, servers, browsers and the product's own processes"; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --no-skip -m "($(PROCESSES)) and not alone" -n $(WAITING) $(SHARED) tests || failed=$$?; \
	echo "== tests that need the machine for themselves"; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --no-skip -m alone $(ALONE) || failed=$$?; \
	exit $$failed
endif

test-fast: $(INSTALLED)  ## Run the fast tests, without Kafka, MLflow or browser, in some two minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not (slow or alone or $(PROCESSES))" --hypothesis-profile=fast -n auto $(SHARED) $(ARGS)

soak: $(INSTALLED)  ## Run the long tests: soak-attack, then soak-live
	@$(BIN)/python -m tools.soak
	@$(BIN)/python -m tools.soak_live

soak-attack: $(INSTALLED)  ## Attack the endpoint for a minute while honest clients ask (ARGS="--seconds 300")
	@$(BIN)/python -m tools.soak $(ARGS)

soak-live: $(INSTALLED)  ## Run the live demo in full, seeds 0 to 2, and check what it showed (ARGS="--seeds 0")
	@$(BIN)/python -m tools.soak_live $(ARGS)

pictures: $(INSTALLED) setup-browser  ## Take the pictures of the README from a full run of the live demo
	@$(BIN)/python -m tools.live_pictures $(ARGS)

soak-crash: $(INSTALLED) setup-kafka  ## Kill, pause and cut from power every stage, and compare with an undisturbed run (ARGS="--log embedded")
	@$(BIN)/python -m tools.crash $(ARGS)

lint: $(INSTALLED)  ## Check style, types, generated files and the imports between rooms
	@echo "ruff check" && $(BIN)/ruff check $(wildcard $(FORMATTED))
	@echo "ruff format" && $(BIN)/ruff format --check $(wildcard $(FORMATTED))
	@echo "mypy" && $(BIN)/mypy recdistill services
	@echo "generated pages" && $(BIN)/python tools/generate_docs.py --check
	@echo "generated wire code" && $(BIN)/python tools/generate_proto.py --check
	@echo "import-linter" && $(BIN)/lint-imports --no-logo

format: $(INSTALLED)  ## Repair what ruff can repair by itself
	@$(BIN)/ruff check --fix $(wildcard $(FORMATTED))
	@$(BIN)/ruff format $(wildcard $(FORMATTED))

bench: $(INSTALLED)  ## Print the benchmark tables in their short form (ARGS="training" runs one of them)
	@tools/setup-kafka.sh || true # bench_log says so where there is none
	@failed=""; set -- $(ARGS); [ $$# -gt 0 ] || set -- $$(ls benchmarks | sed -n 's/^bench_\(.*\)\.py$$/\1/p'); \
	for question in "$$@"; do \
		echo "== $$question"; code=0; \
		$(BIN)/python -m "benchmarks.bench_$$question" --short || code=$$?; \
		[ $$code = 0 ] || [ $$code = 77 ] || failed="$$failed $$question"; \
	done; \
	[ -z "$$failed" ] || { echo "recdistill: these benchmarks failed:$$failed" >&2; exit 1; }

kafka: $(INSTALLED) setup-kafka  ## Run a local Kafka broker in the foreground (ARGS="--port 9092 --data DIR")
	@$(BIN)/python -m tools.kafka_broker $(ARGS)

docs: $(INSTALLED)  ## Write the pages of docs/ that are generated from the code
	@$(BIN)/python tools/generate_docs.py

setup-kafka:  ## Install Java, Maven and the Kafka broker for the tests
	@tools/setup-kafka.sh

setup-browser:  ## Install Chromium and playwright-core for the browser tests
	@tools/setup-browser.sh

setup-deploy:  ## Build the tools that check deploy/ and k8s/: compose-spec and, if it is missing, kustomize
	@tools/setup-deploy.sh

clean:  ## Remove what was built here: .venv, caches, downloads
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find recdistill services tests -name __pycache__ -type d -prune -exec rm -rf {} +
