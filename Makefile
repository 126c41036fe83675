# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets.  Everything that a target needs is installed by scripts/setup.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
PYTHON_BIN := .venv/bin/python
FUZZ_SECONDS ?= 60

# --- the BPF program ---------------------------------------------------------------------------------

CLANG ?= clang
LLVM_STRIP ?= llvm-strip
ARTIFACTS := data_flow_segment/artifacts
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_HEADERS := $(wildcard bpf/*.h)
NATIVE := control_segment/artifacts/datagrams.so $(ARTIFACTS)/reports.so
CLOCK_JUMP := splitplane/drill/artifacts/clock_jump.so
NATIVE_FLAGS := -O2 -fPIC -shared -fvisibility=hidden -Wall -Wextra -Werror -ffile-prefix-map=$(CURDIR)/=
BPF_OBJECTS := $(BPF_SOURCES:bpf/%.bpf.c=$(ARTIFACTS)/%.bpf.o)
# where Debian and Ubuntu keep asm/types.h; clang does not look there for another target
MULTIARCH := /usr/include/$(shell uname -m)-linux-gnu
BPF_FLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Werror -I$(MULTIARCH) -ffile-prefix-map=$(CURDIR)/=

.PHONY: coverage drill help run run-p4 p4-shell mininet test soak check bpf compiled native p4 p4-tna bench fuzz docs format clean setup

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:
	@scripts/setup run

run: setup bpf ## run a complete laboratory on this machine, with a live view, until Ctrl-C (root)
	@exec $(PYTHON_BIN) -m splitplane run $(ARGS)

run-p4: setup ## the same with a P4 switch as the DFS (BMv2, p4lang's package p4lang-bmv2; root)
	@exec $(PYTHON_BIN) -m splitplane run --target p4runtime $(ARGS)

p4-shell: ## inspect the tables of a running run-p4, or of the switch at ADDRESS=HOST:PORT [DEVICE_ID=1]
	@scripts/setup p4-shell
	@exec $(PYTHON_BIN) scripts/p4_shell.py --address "$(ADDRESS)" $(if $(DEVICE_ID),--device-id $(DEVICE_ID))

drill: bpf ## run a failover drill in a laboratory: report, plots, timeline; ARGS="--scenario kill" (root; minutes)
	@scripts/setup run drill
	@exec $(PYTHON_BIN) -m splitplane drill failover $(ARGS)

TOPOLOGY ?= single_switch
mininet: ## run a TOPOLOGY of mininet/ (single_switch, two_cs, standby_cs, two_dfs) with BMv2, or ARGS="--target bpf" (root)
	@scripts/setup run mininet
	@$(if $(findstring bpf,$(ARGS)),$(MAKE) --no-print-directory bpf,:)
	@exec python3 mininet/$(TOPOLOGY).py $(ARGS)

# root can load programs and make namespaces: there a skipped test is a failure
test soak: export SPLITPLANE_REQUIRE ?= $(if $(filter 0,$(shell id -u)),dataplane$(comma)network$(comma)models$(comma)page$(comma)postgresql)
# four processes more than cores, because many tests wait for processes and timers; which tests share a
# process is in tests/support/parallel.py
WORKERS ?= $(shell expr $$(nproc) + 4)
# where a container sets it, hundreds of processes would compile the same modules again
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(PYTHON_BIN) -m pytest --numprocesses $(WORKERS) --no-loadscope-reorder
# first, what Python compiles of the tests is made once, before all processes would make it; the checks,
# which use one processor, go on beside the tests.  What they have found by then ends it
test: bpf ## build the BPF program, run the checks and every test, in random order
	@scripts/setup test
	@$(MAKE) --no-print-directory check >.make/check.log 2>&1 & checks=$$!; \
	  trap 'kill $$checks 2>/dev/null; exit 130' INT TERM; \
	  $(MAKE) --no-print-directory compiled || { kill $$checks 2>/dev/null; exit 1; }; \
	  $(PYTHON_BIN) -m pytest --collect-only -qq >/dev/null 2>&1; \
	  if ! kill -0 $$checks 2>/dev/null; then \
	    wait $$checks || { cat .make/check.log; exit 1; }; \
	  fi; \
	  $(PYTEST) $(ARGS); tested=$$?; \
	  wait $$checks; checked=$$?; cat .make/check.log; \
	  exit $$((tested ? tested : checked))

soak: bpf compiled ## run the long tests in full; `make test` runs a short form of them (minutes)
	SPLITPLANE_SOAK=1 $(PYTEST) -m soak --timeout 1800 $(ARGS)
comma := ,

coverage: ## report the branch coverage of the code that decides, and hold its floor
	@scripts/setup test
	SPLITPLANE_COMPILED=0 SPLITPLANE_TARGETS=memory $(PYTEST) --cov --cov-report=term tests/unit tests/contract tests/property tests/simulation $(ARGS)

C_FILES := $(wildcard bpf/*.[ch] bench/*.c native/*.c)

check: ## run ruff, ruff format, clang-format, mypy --strict, import-linter, tsc; check commit messages
	@scripts/setup test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/clang-format --dry-run -Werror $(C_FILES)
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	scripts/web_check
	scripts/check_commits

bpf: setup ## compile the BPF program, and the native parts of both segments
	@$(MAKE) --no-print-directory $(BPF_OBJECTS) $(NATIVE) $(CLOCK_JUMP)

native: $(NATIVE) ## compile the native parts alone; without them the segments are Python

# not by times: it is of many source files, of their versions before an edit, and of one Python
compiled: ## compile the modules of the hot paths (a minute); without it Python reads their source files
	@scripts/setup compiled
	@$(PYTHON_BIN) scripts/compile_modules.py --check || { echo "compiling Python modules (a minute)"; \
	  $(PYTHON_BIN) scripts/compile_modules.py >.make/compiled.log 2>&1 || { tail -20 .make/compiled.log; exit 1; }; }

control_segment/artifacts/datagrams.so: native/datagrams.c
$(ARTIFACTS)/reports.so: native/reports.c
$(NATIVE): Makefile
	$(CLANG) $(NATIVE_FLAGS) $(filter %.c,$^) -o $@.tmp
	@mv $@.tmp $@

$(CLOCK_JUMP): native/clock_jump.c Makefile
	$(CLANG) $(NATIVE_FLAGS) $< -o $@.tmp -ldl
	@mv $@.tmp $@

$(ARTIFACTS)/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS) Makefile
	$(CLANG) $(BPF_FLAGS) -c $< -o $@.tmp
	@$(LLVM_STRIP) --strip-debug $@.tmp # the DWARF; BTF stays
	@mv $@.tmp $@

# --- the P4 program; what comes out is in the repository, because few machines have a P4 compiler ----

P4C ?= p4c-bm2-ss
P4_FLAGS := --std p4-16 --Werror --Wdisable=unused --Wdisable=invalid_header
P4_SOURCES := p4/dfs.p4 $(sort $(wildcard p4/include/*.p4)) bench/p4/minimal.p4
P4_SCRIPTS := $(foreach name,compact expressions fold temporaries,scripts/p4_$(name).py)
P4_OUTPUTS := $(foreach name,p4/dfs bench/p4/minimal,$(name).json $(name).p4info.txtpb)

p4: p4/SOURCES.sha256 ## compile the P4 program (needs p4c-bm2-ss, from p4lang's packages)

p4/SOURCES.sha256: $(P4_SOURCES) $(P4_SCRIPTS)
	set -e; for name in p4/dfs bench/p4/minimal; do \
	  $(P4C) $(P4_FLAGS) --p4runtime-files $$name.p4info.txtpb -o $$name.json.tmp $$name.p4; \
	  python3 scripts/p4_compact.py $$name.json.tmp $$name.json; rm $$name.json.tmp; \
	done
	sha256sum $(P4_SOURCES) $(P4_OUTPUTS) > $@

p4-tna: ## compile the Tofino program as far as the available compiler can (p4c-barefoot, or p4test)
	@python3 scripts/p4_tna.py build/p4-tna

bench: bpf compiled ## measure every figure of docs/benchmarks.md on this machine (root; minutes)
	@scripts/setup bench
	$(PYTHON_BIN) bench/program.py
	$(PYTHON_BIN) bench/decisions.py
	$(PYTHON_BIN) bench/extraction.py
	$(PYTHON_BIN) bench/reload.py
	$(PYTHON_BIN) bench/desired_state.py
	unshare --net $(PYTHON_BIN) bench/virtual_servers.py --bpf
	$(PYTHON_BIN) bench/compare.py $(ARGS)
	$(PYTHON_BIN) bench/copies.py
	$(PYTHON_BIN) bench/content.py
	$(PYTHON_BIN) bench/far.py
	$(PYTHON_BIN) bench/flood.py
	$(PYTHON_BIN) bench/failover.py --rounds 1
	$(PYTHON_BIN) bench/resync.py
	$(PYTHON_BIN) bench/recall.py
	$(PYTHON_BIN) bench/health.py
	$(PYTHON_BIN) bench/probes.py
	@if ! command -v simple_switch_grpc >/dev/null; then \
	  echo "bench/p4.py and bench/p4_entries.py were not run: simple_switch_grpc is not on the PATH (install p4lang's package p4lang-bmv2)"; \
	else \
	  echo "$(PYTHON_BIN) bench/p4.py; bench/p4_entries.py"; \
	  $(PYTHON_BIN) bench/p4.py && $(PYTHON_BIN) bench/p4_entries.py; \
	fi

fuzz: ## run every fuzz target for FUZZ_SECONDS seconds (default 60)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

docs: setup ## generate the documentation that comes from the code, and check links
	$(PYTHON_BIN) scripts/docs.py

format: setup ## format with ruff and clang-format, and apply ruff's fixes
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
	.venv/bin/clang-format -i $(C_FILES)

clean: ## remove everything that the other targets created, including laboratories
	@if [ -x $(PYTHON_BIN) ] && [ "$$(id -u)" -eq 0 ]; then $(PYTHON_BIN) -m splitplane lab clean; fi
	rm -rf .venv .venv-p4shell .make build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache tests/web/node_modules
	find $(ARTIFACTS) $(dir $(NATIVE)) $(dir $(CLOCK_JUMP)) -type f ! -name .gitkeep -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
