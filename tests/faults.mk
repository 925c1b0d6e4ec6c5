# Faults, a soak and fuzzing, in full: `make test` has a small part of each. Included by the top
# Makefile, whose `dev` target creates the virtual environment that this runs in.

SOAK   ?= 600
FOR    ?= 10m
SEEDED := $(if $(SEED),--seed $(SEED))
FUZZER := $(VENV)/.fuzzer

.PHONY: faults soak fuzz

faults: root dev ## fail each system call with each error, and kill at each: half an hour
	$(SUDO) $(PY) -m tests.faults $(if $(JOBS),--jobs $(JOBS))

soak: root dev ## random commands and faults for SOAK=600 seconds, from SEED
	$(SUDO) $(PY) -m tests.soak --seconds $(SOAK) $(SEEDED)

fuzz: root dev $(FUZZER) ## fuzz all that is read, for FOR=10m altogether, from SEED
	$(SUDO) $(PY) -m tests.fuzz --for $(FOR) $(SEEDED)

$(FUZZER): $(TOOLS)
	@echo "adding the fuzzer"
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --editable '.[fuzz]'
	@$(PY) -m pycontain.cli.launcher $(VENV)/bin/pycontain
	@touch $@
