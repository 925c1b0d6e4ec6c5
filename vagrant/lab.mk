# The integration machine; see vagrant/README.md. Included by the top Makefile.

LAB_PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
LAB = $(LAB_PYTHON) -m vagrant.lab
LAB_REPORTS = build/reports
LAB_SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

LAB_PACKAGES = qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs openssh-client \
	util-linux python3-pip gcc libc6-dev libcap-dev
VAGRANT_PACKAGES = qemu-utils vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients \
	dnsmasq-base iptables rsync

# $(call lab-install,PACKAGES): installs what is missing; one line and failure when it can't.
define lab-install
@missing=; for name in $(1); do \
	dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || \
	missing="$$missing $$name"; done; \
if [ -n "$$missing" ]; then \
	echo "lab: installing$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	out=$$( { $(LAB_SUDO) apt-get update -qq && $(LAB_SUDO) apt-get install -qq \
		--no-install-recommends $$missing; } </dev/null 2>&1 ) || \
	{ echo "lab: no machine: can't install$$missing: $$(echo "$$out" | tail -n 1)" >&2; exit 1; }; \
fi
endef

.PHONY: lab lab-image lab-packages lab-shell lab-test vagrant-box vagrant-packages vagrant-test

lab-packages:
	$(call lab-install,$(LAB_PACKAGES))

## lab: run RUN in a fresh machine, by default a look around
lab: RUN ?= uname -a; cat /sys/fs/cgroup/cgroup.controllers; systemctl is-system-running
lab: lab-packages
	$(LAB) run -- sh -c '$(RUN)'

## lab-image: build the machine's image, unless the recipe's is there
lab-image: lab-packages
	$(LAB) image

## lab-shell: a prompt in a fresh machine
lab-shell: lab-packages
	$(LAB) shell

## lab-test: the tests that need the machine, the lab's own, and the report of what ran where;
## with TESTS="..." only the former, with these options of pytest instead of "tests -m machine"
lab-test: lab-packages
	$(LAB) test -- $(TESTS)
ifndef TESTS
	PYCONTAIN_LAB=1 $(LAB_PYTHON) -m pytest -q tests/lab -m needs_lab \
		--junitxml=$(LAB_REPORTS)/driver.xml
	$(LAB_PYTHON) -m tests.capabilities $(wildcard $(LAB_REPORTS)/host.xml) \
		$(LAB_REPORTS)/lab.xml $(LAB_REPORTS)/driver.xml
endif
