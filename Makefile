# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLUSTER := $(BIN)/python -m tests.cluster
PYTEST := $(BIN)/python -m pytest
export PYTHONUNBUFFERED := 1

.PHONY: help venv demo demo-down test test-unit test-api test-images test-e2e verify generate lock \
        bench-serve bench-soak bench-train bench-claims bench-cache bench-balancer bench-planner bench-jobs cluster-up cluster-down images clean

help: ## List the commands
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

venv: $(VENV)/.stamp ## Python environment of the tools and tests (.venv)
$(VENV)/.stamp: requirements/dev.lock wire/pyproject.toml operator/pyproject.toml
	@echo "== Python environment"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e wire -e operator
	@touch $@

demo: venv ## The main job: cluster, operator, train, measure, plan, serve, load; writes out/demo/
	$(CLUSTER) host && $(BIN)/python -m demo
demo-down: cluster-down ## Remove the demo's cluster

test: venv ## Everything: checks, unit, API, image and end-to-end tests (one closing line)
	@$(CLUSTER) host
	@set -m; $(CLUSTER) build & builds=$$!; set +m; trap 'kill -- -$$builds 2>/dev/null' EXIT; \
	$(MAKE) --no-print-directory verify && wait $$builds
	$(PYTEST) tests -n 2 --dist loadscope --no-loadscope-reorder
test-unit: venv ## Pure functions; seconds
	$(CLUSTER) host && $(PYTEST) tests/unit
test-api: venv ## Against a real kube-apiserver and etcd
	$(CLUSTER) host && $(PYTEST) tests/api
test-images: venv ## Inside the built images: training, compression, engine, server
	$(CLUSTER) host && $(PYTEST) tests/images
test-e2e: venv ## On a real cluster: real pods, real training, real requests
	$(CLUSTER) host && $(PYTEST) tests/e2e

bench-cache: venv ## Cache hits beside nginx and Varnish, hit ratios by policy; writes out/bench/
	$(CLUSTER) host nginx-light varnish wrk && PYTHONPATH=server_image $(BIN)/python -m bench.cache

verify: venv ## Lint, types, import contracts, generated files, chart
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m cycleops.api.crd --check crds
	$(BIN)/python -m tests.verify

generate: venv ## Write crds/ and docs/reference/ from the models, and code from the .proto files
	$(BIN)/python -m cycleops.api.crd crds
	$(BIN)/python -m cycleops.api.reference docs/reference/api.md
	$(BIN)/python -m tests.protos

lock: venv ## Resolve requirements/*.in anew into the lock files
	for name in operator images server sidecar tracing translation clients dev horovod horovod-build demo-data bench-serve bench-train bench-data; do \
	  case $$name in horovod*|demo-data|bench-train) alone=--no-deps;; server|sidecar|tracing|translation|clients) alone="-c requirements/images.lock";; \
	    *) alone=;; esac; \
	  $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header $$alone \
	    --python-version 3.11 --upgrade requirements/$$name.in -o requirements/$$name.lock || exit 1; done

bench-serve: venv ## The server beside LitServe, KServe, FastAPI and the direct call (9 minutes, a quiet machine)
	$(CLUSTER) host && $(BIN)/python -m bench.serve

bench-train: venv ## The training loop beside bare DDP and accelerate, 1 and 2 ranks (16 minutes); writes out/bench/train.json
	$(CLUSTER) host && $(BIN)/python -m bench.train

bench-claims: venv ## Techniques of shortening T, claimed against measured (12 minutes); writes out/bench/claims.json
	$(CLUSTER) host && $(BIN)/python -m bench.claims

bench-soak: venv ## Server and sidecar under load for an hour: is their memory flat?
	$(CLUSTER) host && $(BIN)/python -m bench.soak

bench-jobs: venv ## From a CycleJob to all its children, beside mpi-operator; writes out/bench/jobs.json
	$(CLUSTER) host && $(BIN)/python -m bench.jobs

bench-balancer: venv ## Ways of balancing before pods with caches: hit ratio and p99 (3 minutes); writes out/bench/balancer.json
	PYTHONPATH=server_image $(BIN)/python -m bench.balancer

cluster-up: venv ## Start a cluster to look around in (embedded, kind, or KUBECONFIG's)
	$(CLUSTER) host && $(CLUSTER) up
cluster-down: venv ## Stop and remove it
	$(CLUSTER) down
images: venv ## Build every image (only what changed)
	$(CLUSTER) host && $(CLUSTER) images
bench-planner: venv ## The planner's speed, predictions against real servers, scaling policies; writes out/bench/
	$(CLUSTER) host && PYTHONPATH=server_image $(BIN)/python -m bench.planner
clean: ## Remove what the builds left in this checkout
	rm -rf out $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
