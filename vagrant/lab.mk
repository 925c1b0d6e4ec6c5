# The integration machine; see vagrant/README.md. Included by the top Makefile, whose `need`
# installs packages and whose `dev` target creates the virtual environment that this runs in.

LAB := $(PY) -m vagrant.lab
LAB_REPORTS := build/reports

LAB_PACKAGES := qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs openssh-client
VAGRANT_PACKAGES := qemu-utils vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients \
	dnsmasq-base iptables iproute2 rsync

.PHONY: compat lab lab-image lab-packages lab-shell lab-test vagrant-box vagrant-packages vagrant-test

lab: RUN ?= uname -a; cat /sys/fs/cgroup/cgroup.controllers; systemctl is-system-running
lab: dev lab-packages ## run RUN="..." in a fresh integration machine
	$(LAB) run -- sh -c '$(RUN)'

lab-image: dev lab-packages ## build the machine's image unless the recipe is unchanged
	$(LAB) image

lab-shell: dev lab-packages ## open a shell in a fresh machine
	$(LAB) shell

# With TESTS="..." only these run, in the machine, without the report of what ran where.
lab-test: dev lab-packages ## run the tests that need the machine; report what ran where
	$(LAB) test -- $(TESTS)
ifndef TESTS
	PYCONTAIN_LAB=1 $(PY) -m pytest -q tests/lab -m needs_lab --junitxml $(LAB_REPORTS)/driver.xml
	$(PY) -m tests.capabilities $(wildcard $(LAB_REPORTS)/host.xml) \
		$(LAB_REPORTS)/lab.xml $(LAB_REPORTS)/driver.xml
endif

# The engines, each with pycontain and with runc: an hour, so not part of lab-test.
COMPAT ?= tests/compat
compat: dev lab-packages ## run Podman, Docker and others in the machine, with pycontain and runc
	$(LAB) run --limit 5400 -- sh -c 'PYCONTAIN_COMPAT=1 exec python -m pytest -q $(COMPAT)'

vagrant-box: dev lab-packages vagrant-packages ## build the same image as a Vagrant box; add it
	$(LAB) box

vagrant-test: dev lab-packages vagrant-packages ## run a Vagrant machine's whole lifecycle, with tests
	$(LAB) vagrant-test

lab-packages:
	$(call need,$(LAB_PACKAGES))

vagrant-packages:
	$(call need,$(VAGRANT_PACKAGES))
