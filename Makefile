# Every target installs what it needs first, into .venv: the pinned packages, held to their hashes.
# A machine has to bring Python 3.11 or newer, make and a network.

PORT ?= 8080
IMAGE ?= registry.example.com/saffire
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
# What a Python may change: every pure module, and the TLS and HTTP of the function.
PER_PYTHON := tests/unit tests/test_rfc6902.py tests/api/test_kinds.py tests/api/test_refusals.py
EXPORT := .venv/bin/uv export --quiet --frozen --no-emit-project

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf 'make %-10s %s\n' "$$name" "$$text"; done

install: $(VENV)/installed  ## make .venv, which every other target does too

check: install  ## formatter, linter, types, layering, and whether the lock and its exports agree
	.venv/bin/ruff format --check && .venv/bin/ruff check && .venv/bin/mypy && .venv/bin/lint-imports
	.venv/bin/uv lock --quiet --check --offline
	$(EXPORT) --no-dev | cmp - requirements.txt && $(EXPORT) | cmp - requirements-dev.txt

test: install  ## every test this machine can run; CI=true turns a skipped one into a failure (OPTIONS=pytest's)
	@-.venv/bin/python -m playground binaries > /dev/null
	.venv/bin/python -m pytest --durations=15 $(OPTIONS)
	@$(if $(OPTIONS),,$(MAKE) --no-print-directory pythons)

pythons: install  ## the unit tests, and some of the api tier, on the newest other Python of this machine, or else on the oldest
	@set -- $$(.venv/bin/python -m testkit.pythons); if [ -z "$$1" ]; then \
		echo "No second run: this machine has no supported Python but $$(.venv/bin/python -V)"; \
	else \
		$(MAKE) --no-print-directory install VENV=.venv-$$1 PYTHON="$$2" && \
		echo "A part of the tests, on Python $$1:" && .venv-$$1/bin/python -m pytest -q $(PER_PYTHON); \
	fi

lock: install  ## after a change of dependencies: uv.lock, and what is exported from it
	.venv/bin/uv lock && $(EXPORT) --no-dev > requirements.txt && $(EXPORT) > requirements-dev.txt

image: install  ## the function's image as an OCI layout, dist/image, without Docker (OPTIONS="--architectures amd64")
	@.venv/bin/python -m release image $(OPTIONS)

release: install  ## the image, install.yaml, what the image consists of, checksums, in dist/ (IMAGE=where it will be pushed to)
	@.venv/bin/python -m release all --image $(IMAGE) $(OPTIONS)

base: install  ## pin the newest Debian packages for the image: release/base.lock
	@.venv/bin/python -m release base

demo: install  ## the main job, watched: a registry dies, and workloads move (OPTIONS=--keep, --without-saffire, --simulated, --real)
	@.venv/bin/python -m playground demo $(OPTIONS)

bench: install  ## every figure beside its baseline, as root for those of a real node (OPTIONS="--only storm", --runs, --match, --into, --pages)
	@.venv/bin/python -m bench $(OPTIONS)

mutate: install  ## which small changes of policy/, pulls/ and registry/ no unit test notices; hours (OPTIONS="'saffire.policy.reach*'")
	.venv/bin/mutmut run $(OPTIONS)
	@.venv/bin/mutmut results --all true | .venv/bin/python -m bench.mutation

run: install  ## serve the function on PORT (8080), against the current kubeconfig
	@echo 'Saffire listens on http://127.0.0.1:$(PORT)/ until Ctrl-C; `make send` in another terminal posts to it.'
	@exec env PATH="$(CURDIR)/.venv/bin:$$PATH" HOST=127.0.0.1 PORT=$(PORT) $$(sed -n 's/^web: //p' Procfile)

send: install  ## post a recorded event to what `make run` serves
	@.venv/bin/python -m playground send --to http://127.0.0.1:$(PORT)/

$(VENV)/installed: requirements-dev.txt
	@test -n "$(PYTHON)" || { echo 'Saffire needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@echo 'Installing the pinned packages into $(VENV), which takes about a minute; $(VENV)/install.log grows …'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip --disable-pip-version-check --quiet --log $(VENV)/install.log install --progress-bar off --no-deps --require-hashes --requirement requirements-dev.txt
	@touch $@

.PHONY: help install check test pythons lock image release base demo bench mutate run send
