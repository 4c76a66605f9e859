# Needs Python 3.11 or later and nothing else. UV may name an installed uv; without it one is put into .venv.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.8

.PHONY: setup demo picture lint style types pytest test test-slow test-kills test-viewers fuzz lock audit

setup: .venv/.done

.venv/.done: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "raybox needs Python 3.11 or later; give PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python stage1_classify/run.py
	$(BIN)/python stage2_pseudolabel/run.py
	$(BIN)/python stage3_detect/run.py
	$(BIN)/python eval/run.py compare runs/demo/stage1 runs/demo/stage2 runs/demo/stage3

# The picture of the README, from the demo's report.
picture: demo
	$(BIN)/python docs/overview.py

lint: style types

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# A test process that dies is not replaced: pytest-xdist would give its finished files out again and wait for ever.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart=0

pytest: setup
	$(PYTEST)

# The type check runs at the same time as the tests, since it uses one core.
test: style
	$(MAKE) --jobs=2 types pytest

# The tests that are marked slow, which `make test` leaves out.
test-slow: setup
	$(PYTEST) -m slow

# Kills each stage 30 times at random moments and compares what resumes with an undisturbed run. Takes an hour or so.
test-kills: setup
	$(BIN)/python -m tests.kill_stages --num 30

ATHERIS_VERSION := 3.0.0
FUZZ_S ?= 600

# Fuzzes each reader of files for FUZZ_S seconds, guided by coverage. Ends at the first input that breaks one.
fuzz: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python atheris==$(ATHERIS_VERSION)
	for target in image dicom csv coco voc_xml report_xml yaml label_file; do \
		$(BIN)/python -m tests.fuzz_parsers $$target --seconds $(FUZZ_S) || exit 1; \
	done

# Opens our reports in the OHIF viewer, edits them, and reads them back; two minutes. Needs npm, or OHIF=FOLDER with the
# unpacked package @ohif/app, and from Debian: chromium, orthanc, orthanc-dicomweb.
OHIF_VERSION := 3.12.10
OHIF ?= build/ohif-$(OHIF_VERSION)/package

build/ohif-$(OHIF_VERSION)/package:
	mkdir -p $(@D)
	cd $(@D) && npm pack @ohif/app@$(OHIF_VERSION) && tar xzf ohif-app-$(OHIF_VERSION).tgz

test-viewers: setup $(OHIF)
	RAYBOX_OHIF=$(abspath $(OHIF)) $(BIN)/python -m pytest tests/viewers/check_ohif.py

COMPILE := pyproject.toml --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet \
	--custom-compile-command "make lock"

# Renew the lock files after a change of the dependencies in pyproject.toml.
lock: setup
	$(BIN)/uv pip compile $(COMPILE) --extra train --extra weights --extra serve --extra dicom --extra reports \
		--extra audit --extra cluster --extra dev --output-file requirements.lock
	$(BIN)/uv pip compile $(COMPILE) --extra serve --extra dicom --constraint requirements.lock \
		--output-file requirements-serve.lock

PIP_AUDIT_VERSION := 2.9.0

# Known vulnerabilities of the locked packages. Asks the package index about each, so `make test` does not call it.
audit: setup
	for lock in requirements.lock requirements-serve.lock; do \
		$(BIN)/uvx pip-audit@$(PIP_AUDIT_VERSION) --requirement $$lock --disable-pip --require-hashes --strict || \
			{ echo "audit: $$lock: vulnerable packages, or the package index gave no answer; see above"; exit 1; }; \
	done
