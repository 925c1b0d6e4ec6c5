# `make help` lists the targets. Steps that are already done are not repeated.

PREFIX ?= /usr/local
# The distribution's Python is built with profile-guided optimization and starts a third faster
# than most others.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
TOOLS  := $(VENV)/.tools
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)

RUN_PACKAGES   := python3-venv python3-dev gcc libc6-dev libcap-dev libseccomp2 busybox-static
TEST_PACKAGES  := libseccomp-dev runc crun iproute2 binutils procps \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross chromium-headless-shell bash zsh fish man-db mandoc \
	skopeo umoci golang-github-containers-common
BENCH_PACKAGES := runc crun bubblewrap podman time
SUITES         ?= bullseye trixie sid

# $(call need,PACKAGES): quietly install the missing packages, or print which ones to install.
define need
@missing=$$(for name in $(1); do \
	dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || echo $$name; \
	done); \
[ -z "$$missing" ] || { \
	echo "installing" $$missing; \
	export DEBIAN_FRONTEND=noninteractive; \
	{ $(SUDO) apt-get update -qq && \
	  $(SUDO) apt-get install -qq --no-install-recommends $$missing; } </dev/null >build.log 2>&1 \
	&& rm build.log || { tail -n 3 build.log; \
	  echo "cannot install (needs root or sudo):" $$missing >&2; exit 1; }; }
endef

.PHONY: help root run test mutate test-unit lint rootfs rootfs-debian bench pythons docs install clean dev \
	packages test-packages bench-packages ffi

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: root packages $(READY) ## run the demo bundle: a container shows what it sees
	@bundle=$$(rootfs/make.sh demo) && \
	echo "$(SUDO) $(VENV)/bin/pycontain run --timing --bundle $$bundle demo" && \
	$(SUDO) $(VENV)/bin/pycontain run --timing --bundle $$bundle demo
	@echo && $(SUDO) $(PY) rootfs/snippet.py

test: root lint test-packages ## run the linters and all tests that this host supports
	@mkdir -p build/reports
	$(SUDO) $(PY) -m pytest --junitxml build/reports/host.xml $(TESTS)

mutate: root dev test-packages ## replace each step with a no-op; a test must fail each time
	$(SUDO) $(PY) -m tests.mutation $(STEPS)

test-unit: dev ## run the unit tests, which need no root
	$(PY) -m pytest tests/unit

lint: dev ## run ruff, mypy --strict and codespell
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet pycontain tests benchmarks release vagrant
	@$(VENV)/bin/mypy
	@$(VENV)/bin/codespell

bench: root dev bench-packages ## compare pycontain with runc, crun and bubblewrap
	$(SUDO) $(PY) -m benchmarks $(BENCH)

rootfs: packages ## create the busybox root file system and the demo bundle
	@rootfs/make.sh demo

rootfs-debian: packages ## create a minimal Debian root file system
	$(call need,debootstrap)
	@$(SUDO) rootfs/make.sh debian

pythons: root dev ## run sandboxes with the Pythons of other Debian releases [SUITES="bullseye trixie sid"]
	$(call need,mmdebstrap)
	@for suite in $(SUITES); do $(SUDO) rootfs/make.sh python $$suite || exit 1; done
	$(SUDO) $(PY) -m pytest tests/sandbox/test_pythons.py

docs: dev packages ## build the documentation: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	@echo build/site/index.html

# Staged below DESTDIR it needs no root, and is finished by `pycontain setup` where it is unpacked.
INSTALL := $(if $(DESTDIR),,$(SUDO)) $(PYTHON) -B -m release.install

install: packages ## install to PREFIX (/usr/local), below DESTDIR
	@$(INSTALL) install --prefix "$(PREFIX)" --destdir "$(DESTDIR)"
	@[ -n "$(DESTDIR)" ] || $(PREFIX)/bin/pycontain --version

uninstall: ## remove what install has put there
	@$(INSTALL) uninstall --prefix "$(PREFIX)" --destdir "$(DESTDIR)"

clean: ## remove what was built here, but not the caches outside
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f pycontain/kernel/*.so

dev: packages $(READY) $(TOOLS)

$(READY): pyproject.toml pycontain/kernel/_bare.c pycontain/kernel/_vfork.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "pycontain needs Python 3.11: make PYTHON=python3.x" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --editable .
	@$(PY) -m pycontain.cli.launcher $(VENV)/bin/pycontain
	@touch $@

$(TOOLS): $(READY)
	@echo "adding the tools for tests and benchmarks"
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --editable '.[dev,docs,emulate,examples]'
	@$(PY) -m pycontain.cli.launcher $(VENV)/bin/pycontain
	@touch $@

root:
	@[ -z "$(SUDO)" ] || command -v sudo >/dev/null || \
	{ echo "needs root, or sudo: containers are namespaces, mounts and cgroups" >&2; exit 1; }

packages:
	$(call need,$(RUN_PACKAGES))

test-packages:
	$(call need,$(TEST_PACKAGES))

bench-packages:
	$(call need,$(BENCH_PACKAGES))

ffi: dev ## regenerate the C bindings
	$(PY) -m pycontain.kernel.ffi_source
	$(PY) -m pycontain.vm.ffi_source

include vagrant/lab.mk
include tests/faults.mk
include release/wheel.mk
