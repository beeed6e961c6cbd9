# Two commands: `make run` shows what it does on a sample study, `make test` checks all of it.
# PYTHON=python3.12 picks the interpreter, VENV=folder the environment, PYTEST_ARGS="-k grad" some of the tests.

SHELL := /bin/bash
VENV ?= .venv
PYTEST_ARGS ?=
SAMPLE := resources/samples/synthetic-consolidation.dcm
OUT := out
export VENV PYTHON

.PHONY: help run test dev lint types layers check wheel installer bench pictures clean

help:
	@echo "make run        install, then open the sample study (without a display: analyse it)"
	@echo "make test       install what the tests need and run them all"
	@echo "make check      lint, format, types, import layers"
	@echo "make wheel      build the wheel and the source archive into dist/"
	@echo "make installer  freeze the program into dist/radiolucent/ (Linux)"
	@echo "make bench      measure, and write docs/bench.md (a quarter of an hour)"
	@echo "make pictures   take the screenshots anew"
	@echo "make clean      remove what the above have made"

run:
	@bash installers/setup.sh run
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
	    exec $(VENV)/bin/python -m app $(SAMPLE); \
	else \
	    echo "No display: analysing $(SAMPLE)"; \
	    $(VENV)/bin/radiolucent analyze $(SAMPLE) --report --out $(OUT) && \
	    bash installers/say_where.sh $(OUT)/$(basename $(notdir $(SAMPLE))); \
	fi

test:
	@bash installers/setup.sh test
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

dev:
	@bash installers/setup.sh dev

lint: dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: dev
	@$(VENV)/bin/mypy

layers: dev
	@$(VENV)/bin/lint-imports

check: lint types layers

wheel: dev
	@rm -rf dist/*.whl dist/*.tar.gz
	@$(VENV)/bin/python -m build --outdir dist .

installer:
	@bash installers/linux/build.sh

bench:
	@bash installers/setup.sh test
	@$(VENV)/bin/radiolucent bench --peers --viewer --repeats 2 --markdown docs/bench.md --json out/bench.json

pictures: dev
	@QT_QPA_PLATFORM=offscreen $(VENV)/bin/python docs/make_pictures.py

clean:
	@rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
