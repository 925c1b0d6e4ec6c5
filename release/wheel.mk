# The wheel and the source distribution, in dist/. Included by the Makefile.

WHEEL_TOOLS := $(VENV)/.wheel-tools
HOST_ARCH   := $(shell uname -m)
ARCH        ?= $(HOST_ARCH)
BUILT       := build/wheel

# What compiles for another architecture: ARCH=aarch64 needs gcc-aarch64-linux-gnu. Debian's Python
# has a pyconfig.h for each; what the limited API uses of it is the same on both.
CROSS        = $(if $(filter $(HOST_ARCH),$(ARCH)),,\
	CC=$(ARCH)-linux-gnu-gcc LDSHARED="$(ARCH)-linux-gnu-gcc -shared" \
	CFLAGS="-I$(CURDIR)/$(BUILT)/include -idirafter /usr/include" \
	_PYTHON_HOST_PLATFORM=linux-$(ARCH))
VERSION_OF   = $(shell $(PY) -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

.PHONY: wheel test-wheel

wheel: $(WHEEL_TOOLS) ## build and check the wheel and the sdist in dist/ [ARCH=aarch64]
	@rm -rf $(BUILT)
	@mkdir -p $(BUILT)/include/$(ARCH)-linux-gnu/$(VERSION_OF)
	@echo '#include <$(HOST_ARCH)-linux-gnu/$(VERSION_OF)/pyconfig.h>' \
	> $(BUILT)/include/$(ARCH)-linux-gnu/$(VERSION_OF)/pyconfig.h
	@rm -f dist/*_$(ARCH).whl dist/*.tar.gz
	@{ $(CROSS) $(PY) -m build --outdir $(BUILT) . && \
	  PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/auditwheel repair -w dist $(BUILT)/*.whl && \
	  mv $(BUILT)/*.tar.gz dist; } >$(BUILT)/log 2>&1 || { tail $(BUILT)/log; exit 1; }
	@$(VENV)/bin/abi3audit --strict dist/*_$(ARCH).whl
	@$(VENV)/bin/check-wheel-contents dist/*_$(ARCH).whl
	@$(VENV)/bin/twine check --strict dist/*_$(ARCH).whl dist/*.tar.gz
	@ls dist

# The wheel for aarch64 is loaded under qemu-user, where that and a compiler for it are installed.
test-wheel: root wheel ## install the wheel for every Python at hand, and use it
	@[ $(HOST_ARCH) = aarch64 ] || ! command -v aarch64-linux-gnu-gcc >/dev/null || \
	$(MAKE) --no-print-directory wheel ARCH=aarch64
	$(SUDO) $(PY) -m pytest tests/packaging $(TESTS)

$(WHEEL_TOOLS): $(TOOLS)
	@echo "adding the tools that build wheels"
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --editable '.[wheel]'
	@$(PY) -m pycontain.cli.launcher $(VENV)/bin/pycontain
	@touch $@
