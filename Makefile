# Every target works on a machine that has only Python >= 3.11 with venv, make and git, but for test, mutants, bench
# and bench-decode: these are about the compiled decoders too, and need a C compiler and Python's headers. The first
# target makes .venv and installs what requirements/all.lock pins, by hash. Later runs do nothing unless one of these
# inputs changed.
#
#   make demo                 the whole thing, without AWS, Docker or configuration
#   make test                 all tests            (make test ARGS="-k ledger -x")
#   make simulations TIMES=20 the simulations over twenty times as many seeds as `make test` tries
#   make torture SEEDS=20     random histories against the real process, with faults; SEED=7 repeats one of them
#   make torture SEEDS=20 ARGS="--replicas 3"   the same on three replicas, which make tools or make matrix has fetched
#   make profiles             every setting of ClickHouse, set otherwise for the daemon's user: no row differs
#   make matrix               scenarios on several versions of ClickHouse, alone and as replicas: docs/clickhouse.md
#   make cloud                smoke scenarios on a ClickHouse service that the environment names: docs/clickhouse.md
#   make mutants              plants known bugs, one at a time, and shows by what each is noticed
#   make bench-decode         CPU time of decoding alone, by the compiled path and by the exact one
#   make bench                CPU time per record, latency and memory, beside what one would build instead: build/bench.md
#   make bench-compare A=… B=…  two build/bench.json of two runs
#   make bench-scale          what 1, 10, 100 and 1,000 mostly idle shards cost
#   make bench-recovery       seconds from SIGKILL to the next new row, and of the pause in reading at a reshard
#   make tools                what some tests need: promtool, hadolint, schemas, MkDocs, Chromium, ClickHouse 25.8, ZooKeeper
#   make alerts               a real Prometheus over a real daemon while faults are injected: which alerts fire
#   make check                lint, format, types, layers, sizes and words
#   make docs                 rewrite the generated pages of docs/
#   make site                 docs/ as a site, every link checked: build/site
#   make lock                 resolve the dependencies again
#   make PYTHON=python3.12 …  with that interpreter

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := .tools
BENCH := .bench
MATRIX := .matrix
# the first of these that starts and is new enough; `make PYTHON=...` overrides
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
UV := $(BIN)/uv --quiet
COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'

SEEDS ?= 20
TIMES ?= 20

# where it is set, every process compiles all that it imports, which takes it three times as long to start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test simulations torture matrix profiles cloud mutants bench bench-compare bench-decode bench-scale bench-recovery tools alerts check docs site lock upgrade clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   make/make/p' Makefile

demo: $(STAMP)
	@$(BIN)/dyncdc demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(ARGS)

simulations: $(STAMP)
	DYNCDC_SIMULATIONS=$(TIMES) $(BIN)/python -m pytest tests/simulation -k "not planted" --timeout 0 --numprocesses 3 \
		--dist loadfile $(ARGS)

torture: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m torture $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

profiles: $(STAMP)
	DYNCDC_EVERY_SETTING=1 $(BIN)/python -m pytest tests/integration/profiles/test_every_setting.py -rA -s $(ARGS)

# engines that are not there are fetched when their turn comes, 0.5 to 0.85 GB each
matrix: $(MATRIX)/.installed
	@PYTHONPATH=tests $(BIN)/python -m matrix $(ARGS)

cloud: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m cloud

bench-decode: $(STAMP)
	@$(BIN)/python benchmarks/decode.py

# what the contenders need, and the plot, is in an environment of its own: nothing of it is beside the daemon
bench: $(STAMP) $(BENCH)/.installed
	@PYTHONPATH=tests $(BIN)/python benchmarks/bench.py --peers-python $(BENCH)/bin/python $(ARGS)

bench-compare: $(STAMP)
	@$(BIN)/python benchmarks/compare.py $(A) $(B)

bench-scale: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python benchmarks/scale.py $(ARGS)

$(BENCH)/.installed: $(STAMP) requirements/bench.lock
	@echo "installing into $(BENCH)"
	@$(BENCH)/bin/python -c '' 2>/dev/null || { rm -rf $(BENCH) && $(BIN)/python -m venv --without-pip $(BENCH); }
	@$(UV) pip install --python $(BENCH)/bin/python --require-hashes --no-deps -r requirements/bench.lock
	@touch $@

bench-recovery: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python benchmarks/recovery.py $(ARGS)

# optional: tests that need a tool that is not there are skipped
tools: $(TOOLS)/.installed $(MATRIX)/.installed

$(TOOLS)/.installed: $(STAMP) requirements/tools.lock requirements/debian.sh requirements/fetch-prometheus.sh requirements/fetch-chromium.sh
	@echo "installing into $(TOOLS)"
	@$(TOOLS)/bin/python -c '' 2>/dev/null || { rm -rf $(TOOLS) && $(BIN)/python -m venv --without-pip $(TOOLS); }
	@$(UV) pip install --python $(TOOLS)/bin/python --require-hashes --no-deps -r requirements/tools.lock
	@sh requirements/fetch-prometheus.sh $(TOOLS)
	@sh requirements/fetch-chromium.sh $(TOOLS)
	@touch $@

$(MATRIX)/.installed: $(STAMP) requirements/debian.sh requirements/fetch-zookeeper.sh tests/matrix/engines.py
	@echo "installing into $(MATRIX)"
	@sh requirements/fetch-zookeeper.sh $(MATRIX)
	@PYTHONPATH=tests $(BIN)/python -m matrix --fetch --engines 25.8
	@touch $@

alerts: $(STAMP) tools
	@DYNCDC_ALERTS=1 $(BIN)/python -m pytest tests/deploy/monitoring/test_alerts_fire.py $(ARGS)

mutants: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m simulation.mutants.noticing

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_house.py
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python tools/generate_docs.py
	$(BIN)/python tools/generate_dashboard.py
	$(BIN)/python tools/generate_deploy.py

site: tools
	@NO_MKDOCS_2_WARNING=1 $(TOOLS)/bin/mkdocs build --strict --clean
	@echo "build/site/index.html"

# all.lock is everything but what `make bench` measures beside the daemon; runtime.lock is what the container image gets, held to the same versions
lock: $(STAMP)
	$(COMPILE) $(LOCK_ARGS) --extra local --extra dev --override requirements/overrides.txt \
		pyproject.toml requirements/build.in --output-file requirements/all.lock
	$(COMPILE) --constraint requirements/all.lock pyproject.toml requirements/build.in \
		--output-file requirements/runtime.lock
	$(COMPILE) --constraint requirements/all.lock --extra bench pyproject.toml --output-file requirements/bench.lock
	$(COMPILE) requirements/uv.in --output-file requirements/uv.lock
	$(COMPILE) $(LOCK_ARGS) requirements/tools.in --output-file requirements/tools.lock

upgrade:
	@$(MAKE) lock LOCK_ARGS=--upgrade

clean:
	rm -rf $(VENV) $(TOOLS) $(BENCH) $(MATRIX) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A first line of pip for uv itself, pinned by hash; uv for the rest: a fifth of pip's time.
# The project is installed without build isolation, with the pinned setuptools: nothing unpinned is fetched.
$(STAMP): requirements/all.lock requirements/uv.lock pyproject.toml $(wildcard dyncdc/*/*.[ch] dyncdc/*/*/*.[ch])
	@sh requirements/check-python.sh "$(PYTHON)"
	@echo "installing into $(VENV)"
	@rm -f $@
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV) && "$(PYTHON)" -m venv $(VENV); }
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements/uv.lock
	@$(UV) pip install --python $(BIN)/python --require-hashes --no-deps -r requirements/all.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
