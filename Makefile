# Two commands do all the set-up: `make demo` and `make test`.
# Each makes .venv and installs what it needs; nothing else on the machine is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
RUN    := $(VENV)/.run
DEV    := $(VENV)/.dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR: # a venv that could not be made whole is made again, not taken for one
.PHONY: help demo test docs reference promtool crash soak leaks test-quick lab serve lint bench bench-crash fixtures clean

help:            ## what there is
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(RUN)     ## 100 agent jobs on an embedded PostgreSQL, mirrored, checked, exported, verified
	@$(BIN)/aetheris demo

test: $(DEV) promtool lint ## everything: house rules, units, properties, store, races, crashes, notebooks
	$(BIN)/python -m tests

crash: $(DEV)    ## SEEDS=n kills at every boundary (1000), each campaign of a hundred from a seed of its own
	$(BIN)/python -m tests.crash.campaign --kills $(or $(SEEDS),1000)

soak: $(DEV)     ## MINUTES=n of load, kills, outages and a full disk (60), watched from outside; SEED=n
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) --seed $(or $(SEED),1)

promtool:        # evaluates the alerts in tests; Debian's package brings it
	@command -v promtool >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo "installing promtool (Debian's prometheus)" \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null; } \
		|| echo "promtool is missing: install prometheus, or the tests of alerts fail"

leaks: $(DEV)    ## REQUESTS=n by twelve tenants at once (20000), every answer searched for what is another's
	$(BIN)/python -m tests.api.leaks --requests $(or $(REQUESTS),20000)

test-quick: $(DEV) ## units and properties alone
	$(BIN)/python -m pytest tests/unit tests/property tests/house

lint: $(DEV)     ## ruff, mypy strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV)     ## the manuals as a site in build/docs, every link checked
	$(BIN)/mkdocs build --strict
	@echo "build/docs/index.html"
	@echo "with search: python3 -m http.server -d build/docs"

reference: $(DEV) ## make docs/reference anew from the code
	$(BIN)/python -m tools.reference

lab: $(RUN)      ## JupyterLab on the notebooks
	@# Nothing leaves the machine: no news, no question about news, no look for updates.
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
		> $(VENV)/share/jupyter/lab/settings/overrides.json
	@# Jupyter refuses to run as root; in a container there often is nobody else.
	$(BIN)/jupyter lab --notebook-dir=notebooks $$(test "$$(id -u)" = 0 && echo --allow-root) --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

serve: $(RUN)    ## the API with a worker for the demo's agent, on the embedded PostgreSQL, for this machine
	$(BIN)/aetheris serve aetheris.demo.airline:airline

bench: $(DEV)    ## the main figures
	$(BIN)/python -m benchmarks main --json

bench-crash: $(DEV) ## the same kills against Aetheris and DBOS, which it installs
	@$(PIP) install -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks crash --json

fixtures: $(DEV) ## make data/fixtures anew from its seed
	$(BIN)/python -m aetheris.demo.fixtures data/fixtures

clean:           ## remove .venv, caches and the demo's data
	-@test ! -x $(BIN)/aetheris || $(BIN)/aetheris down
	rm -rf $(VENV) .aetheris build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-evidence.zip soak.json

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Aetheris needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}. Run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@# What it says is kept until it fails: a Ctrl-C ends in make's own line, not in a traceback.
	@trap 'exit 130' INT; said=$$($(PYTHON) -m venv $(VENV) 2>&1) || { echo "$$said" >&2; exit 1; }

$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the demo needs into $(VENV) (about a minute, once)"
	@$(PIP) install -c constraints.txt -e '.[workbench]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[workbench,tracing,dev]'
	@touch $@ $(RUN)
