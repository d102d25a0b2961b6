# `make demo` and `make test` need only a Debian or Ubuntu machine and this checkout.

PACKAGES := python3-venv qemu-system-x86 qemu-utils mmdebstrap e2fsprogs debian-archive-keyring uidmap
TEST_PACKAGES := zsh mandoc shellcheck lcov
BROWSER_PACKAGES := chromium chromium-driver python3-selenium
# Only without a gdb: the package gdb-minimal replaces a full gdb.
TEST_PACKAGES += $(if $(shell command -v gdb),,gdb-minimal)
PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV := .venv
SCENARIO := scenarios/disk-reservation/buffered-write.yaml
# Directory for reports and guest consoles, for CI.
REPORTS :=
RUN_REPORTS = $(if $(REPORTS), --json $(REPORTS)/$(1).jsonl --junit $(REPORTS)/$(1).xml$(CONSOLES))
CONSOLES = $(if $(REPORTS), --consoles $(REPORTS)/consoles)
JUNIT = $(if $(REPORTS), --junitxml=$(REPORTS)/$(1).xml)
# The quick tests run in one process more than there are CPUs. All tests run in one process per
# CPU, because a guest without CPU time runs into its time-outs.
SIDE_BY_SIDE = --numprocesses=$(if $(ALL),auto,$(shell echo $$(($$(nproc) + 1)))) --maxprocesses=4
# Slow: takes several CPU seconds; skipped by `make test`, run by CI and `make test ALL=1`. So are the tests that
# need the test kernel, which takes 15 minutes to build.
ALL :=
FUZZ_SECONDS := 3600
KILLS_SECONDS := 14400
SWEEP_KILLS := 50
# What `make bench` measures; everything by default.
PARTS :=
# The build tree of a kernel of yours, for `make tree-test`.
TREE :=
# Options of the run of `make plants`: PLANTS='--only NAME --jobs 2'.
PLANTS :=
# Options of the run of `make matrix`: MATRIX='--kernel stock:7.3 --jobs 2'.
MATRIX :=
# pytest on the host runs each test of tests/guest in a guest (tests/support/guest_items.py).
PYTEST := $(VENV)/bin/python -m pytest
SUITE = $(PYTEST) $(SIDE_BY_SIDE) --dist=loadgroup --no-loadscope-reorder
GUEST_PYTEST = $(if $(REPORTS),INJECT_CONSOLES=$(REPORTS)/consoles )$(PYTEST)

.PHONY: library demo test unit suite guest-test debug-test browser-test bare-test tree-test load cycles unreached plants coverage matrix fuzz kills sweep-kills lint docs bench bench-detectors bench-sweep man clean

# Seconds since 1970, and MB that this machine has received (proc_pid_net(5)).
COUNTERS := date +%s; awk 'NR > 2 && $$1 != "lo:" {sum += $$2} END {printf "%d", sum / 1000000}' /proc/net/dev
BEGAN := $(shell $(COUNTERS))

# Run a bcachefs scenario on Debian's own kernel: only inject's module is compiled.
demo: $(VENV)/run $(REPORTS)
	$(VENV)/bin/inject vm run -v --kernel stock$(call RUN_REPORTS,demo) $(SCENARIO)
	@set -- $(BEGAN) $$($(COUNTERS)); \
	echo "make demo took $$(($$3 - $$1)) s; this machine received $$(($$4 - $$2)) MB meanwhile"

test: unit suite

unit: $(VENV)/ready $(REPORTS)
	$(PYTEST) $(SIDE_BY_SIDE)$(call JUNIT,unit) tests/unit

guest-test: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm build
	$(VENV)/bin/inject vm build --kernel test
	$(GUEST_PYTEST)$(call JUNIT,guest-test) tests/guest

# Tests that need KASAN, lockdep or kmemleak. The debug kernel takes half an hour to build.
debug-test: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm build --kernel debug
	INJECT_KERNEL=debug $(GUEST_PYTEST)$(call JUNIT,debug-test) -m debug_kernel tests/guest

# Run every shipped scenario, with one report; `make suite` runs a few of them, with ALL=1 all.
library: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm run$(call RUN_REPORTS,library) scenarios/

# Count a million calls for each kind of probe exactly; the suite counts a fifth of that.
load: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel test
	INJECT_CALLS=1000000 $(GUEST_PYTEST) tests/guest/test_load.py

# Test the page of a sweep in Debian's chromium, which has no window for it.
browser-test: $(VENV)/ready $(REPORTS)
	$(call install,$(BROWSER_PACKAGES))
	$(PYTEST)$(call JUNIT,browser-test) tests/browser

# Follow docs/install.md on a bare machine: a guest of Debian's kernel that has nothing of inject. Takes some 15
# minutes on two CPUs.
bare-test: $(VENV)/ready $(REPORTS)
	$(PYTEST)$(call JUNIT,bare-test) tests/bare

# Test --kernel-tree on a kernel that you built: `make tree-test TREE=~/linux`.
tree-test: $(VENV)/ready $(REPORTS)
	@test -n "$(TREE)" || { echo 'say which tree: make tree-test TREE=DIR'; exit 2; }
	INJECT_TREE=$(abspath $(TREE)) $(PYTEST)$(call JUNIT,tree-test) tests/tree

# A thousand times attach, arm and detach unmarked functions under load, by each of the module's ways, on Debian's
# kernels; the suite does 40 on 6.12. The kfunc needs Linux 6.12.
CYCLES := stock stock:7.3 stock:6.1
cycles: $(VENV)/ready
	set -e; for kernel in $(CYCLES); do \
		$(VENV)/bin/inject vm build --kernel $$kernel; \
		INJECT_KERNEL=$$kernel INJECT_CYCLES=1000 $(GUEST_PYTEST) -rP tests/guest/test_cycles.py; \
	done

# Run every shipped scenario with a fault that never fires, and the skeleton of every function that
# inject knows how to reach; the suite runs a few of each.
unreached: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel test
	INJECT_SAMPLE=all $(GUEST_PYTEST) tests/guest/test_unreached.py tests/guest/test_draft.py

# Tests that need guests: tests/guest and tests/vm, in one guest per CPU. The quick ones need Debian's kernel only; with
# ALL=1 the test kernel is built while the tests run that do not need it.
suite: $(VENV)/ready $(REPORTS)
	set -e; for kernel in stock $(if $(ALL),stock:7.3 stock:6.1); do $(VENV)/bin/inject vm build --kernel $$kernel; done
ifeq ($(ALL),)
	$(SUITE) -m 'not slow and not test_kernel'$(call JUNIT,suite) tests/guest tests/vm
else
	nice -n 19 $(VENV)/bin/inject vm build --kernel test & built=$$!; \
	$(SUITE) -m 'not test_kernel'$(call JUNIT,suite) tests/guest tests/vm; failed=$$?; \
	wait $$built && $(SUITE) -m test_kernel$(call JUNIT,suite-test-kernel) tests/guest tests/vm && exit $$failed
endif

# Measure the cost of a fault in instructions; the figures are the same on every machine. PARTS="slab start" measures
# only those (tests/bench/parts.py).
bench: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel test
	$(VENV)/bin/inject vm build --kernel stock
	$(VENV)/bin/python -m tests.bench --json bench.jsonl $(PARTS:%=--only %)

# Measure what each of the test kernel's detectors costs a boot and a round of file operations.
bench-detectors: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel test
	$(VENV)/bin/python -m tests.bench.detectors

# Measure what a trial of a sweep costs: forked, booted, and without isolation.
bench-sweep: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel stock
	$(VENV)/bin/python -m tests.bench.trials --json bench-sweep.jsonl

# Plant bugs in error paths of the kernel, one at a time, and count those that the scenarios notice. Builds a kernel
# of its own; takes an hour.
plants: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm build --kernel plants
	$(VENV)/bin/python -m tests.plants $(if $(REPORTS),--json $(REPORTS)/plants.jsonl --consoles $(REPORTS)/consoles) $(PLANTS)

# Count the error lines of bcachefs that the library reaches, on a kernel of its own with gcov. Takes an hour.
coverage: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/inject vm build --kernel coverage
	$(PYTEST)$(call JUNIT,coverage) tests/coverage
	$(VENV)/bin/inject vm run --coverage $(or $(REPORTS),.)/coverage.info$(call RUN_REPORTS,coverage-library) scenarios/
	$(VENV)/bin/inject coverage $(or $(REPORTS),.)/coverage.info

# Replay the library on Debian's kernels 6.1, 6.12 and 7.3 and on the test kernel, and print scenario x kernel.
matrix: $(VENV)/ready $(REPORTS)
	$(VENV)/bin/python -m tests.matrix $(if $(REPORTS),--json $(REPORTS)/matrix.jsonl --consoles $(REPORTS)/consoles) $(MATRIX)

# Give damaged data to every reader of inject for FUZZ_SECONDS on all CPUs: scenario files, what guests and
# QEMU say, the files of the cache. build/fuzz has what one does not stand. The unit tests read some 1700.
fuzz: $(VENV)/ready
	$(VENV)/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# Kill inject at each of its system calls, in a guest and on this machine, for KILLS_SECONDS.
kills: $(VENV)/ready
	$(VENV)/bin/inject vm build --kernel test
	$(VENV)/bin/python -m tests.kills --seconds $(KILLS_SECONDS)

# Kill sweeps, and their guests, SWEEP_KILLS times at random moments, and go on with them.
sweep-kills: $(VENV)/ready
	$(VENV)/bin/inject vm build
	$(VENV)/bin/python -m tests.kills.sweeps --kills $(SWEEP_KILLS)

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Generate the manual page from the commands.
man: $(VENV)/ready
	$(VENV)/bin/python docs/generate.py inject.1

# Generate the parts of docs/ that come from the format and the commands, and the manual page.
docs: $(VENV)/ready
	$(VENV)/bin/python docs/generate.py

ifneq ($(REPORTS),)
$(REPORTS):
	mkdir -p $@
endif

# $(call install,PACKAGES): install those that are missing.
define install
	missing=; for package in $(1); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
	fi
endef

# Install inject into .venv, with what running it needs. The environment can use the system's
# packages, because only the distribution has bcc.
$(VENV)/run: setup.cfg pyproject.toml Makefile
	$(call install,$(PACKAGES))
	$(PYTHON) -m venv --clear --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

# The same, with what its tests need.
$(VENV)/ready: $(VENV)/run
	$(call install,$(TEST_PACKAGES))
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
