# `make demo` and `make test` do everything on a fresh Debian or Ubuntu machine.

PACKAGES := python3-venv qemu-system-x86 qemu-utils mmdebstrap e2fsprogs debian-archive-keyring uidmap zsh mandoc
# gdb-minimal would take the place of a full gdb.
PACKAGES += $(if $(shell command -v gdb),,gdb-minimal)
PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV := .venv
SCENARIO := scenarios/disk-reservation/buffered-write.yaml
# A folder for what a CI keeps: reports and the guests' consoles.
REPORTS :=
RUN_REPORTS = $(if $(REPORTS), --json $(REPORTS)/$(1).jsonl --junit $(REPORTS)/$(1).xml$(CONSOLES))
CONSOLES = $(if $(REPORTS), --consoles $(REPORTS)/consoles)
JUNIT = $(if $(REPORTS), --junitxml=$(REPORTS)/$(1).xml)
# Quick tests run in one process more than there are processors, for whoever waits. With
# everything there are only as many: a guest that is starved runs into its timeouts.
SIDE_BY_SIDE = --numprocesses=$(if $(ALL),auto,$(shell echo $$(($$(nproc) + 1)))) --maxprocesses=4
# Those marked slow are for CI, and for before a commit: make test ALL=1.
ALL :=
QUICK = $(if $(ALL),, -m 'not slow')
GUEST_PYTEST := python3 -m pytest -p no:cacheprovider --rootdir=/run/inject -c /run/inject/setup.cfg

.PHONY: library demo test unit suite guest-test load unreached lint docs bench man clean

demo: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm run -v$(call RUN_REPORTS,demo) $(SCENARIO)

test: unit suite

unit: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)$(call JUNIT,unit) tests/unit

guest-test: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm build
	$(VENV)/bin/inject vm exec --timeout 3000$(CONSOLES) -- env PYTHONPATH=/run/inject INJECT_NO_SKIP=$(INJECT_NO_SKIP) $(GUEST_PYTEST) /run/inject/tests/guest

# What needs the detectors of the debug kernel, which takes half an hour to build.
debug-test: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel debug
	$(VENV)/bin/inject vm exec --kernel debug --timeout 3000 -- env PYTHONPATH=/run/inject $(GUEST_PYTEST) -m debug_kernel /run/inject/tests/guest

# Every shipped scenario as it is; `make suite` does every tenth.
library: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm run$(call RUN_REPORTS,library) scenarios/

# A million calls for each kind of probe, counted to the unit; the suite makes a fifth of them.
load: $(VENV)/ready
	$(VENV)/bin/inject vm build
	$(VENV)/bin/inject vm exec --timeout 900 -- env PYTHONPATH=/run/inject INJECT_CALLS=1000000 $(GUEST_PYTEST) /run/inject/tests/guest/test_load.py

# Every shipped scenario with its fault swapped for one that is never reached; the suite does a few a day.
unreached: $(VENV)/ready
	$(VENV)/bin/inject vm build
	$(VENV)/bin/inject vm exec --timeout 3600 -- env PYTHONPATH=/run/inject INJECT_SAMPLE=all $(GUEST_PYTEST) /run/inject/tests/guest/test_unreached.py

# What needs guests: tests/vm, which runs tests/guest as well, in as many guests at once as there are processors.
suite: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm build
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) --dist=loadgroup --no-loadscope-reorder$(QUICK)$(call JUNIT,suite) tests/vm

# What a fault costs, in instructions: the same figures on every machine.
bench: $(VENV)/ready
	$(VENV)/bin/inject vm build
	$(VENV)/bin/python -m tests.bench --json bench.jsonl

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The manual page, from the commands themselves.
man: $(VENV)/ready
	$(VENV)/bin/python docs/generate.py inject.1

# Everything in docs/ that is made from the format and the commands, the manual page included.
docs: $(VENV)/ready
	$(VENV)/bin/python docs/generate.py

ifneq ($(REPORTS),)
$(REPORTS):
	mkdir -p $@
endif

# Installs what is missing, by name, then the project into its own environment. That
# one sees the system's packages, because bcc comes from the distribution only.
$(VENV)/ready: setup.cfg pyproject.toml Makefile
	missing=; for package in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
	fi
	$(PYTHON) -m venv --clear --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
