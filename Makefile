# Needs python3 (3.11 or later) with its venv module; nothing else. `make help` lists the targets.
PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
LOCK   := uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
          --python-version 3.11 pyproject.toml requirements/build.in

run: .venv/run.ok        ## set up if needed, simulate scenarios.yaml, export to out/deploy if all passed
	@echo $(BIN)/hasim run scenarios.yaml; $(BIN)/hasim run scenarios.yaml; ran=$$?; \
	case $$ran in 0 | 3 | 99) ;; *) exit $$ran ;; esac; \
	echo $(BIN)/hasim export out/scenarios; $(BIN)/hasim export out/scenarios; exported=$$?; \
	[ $$ran -ne 0 ] || exit $$exported; exit $$ran
test: .venv/test.ok      ## set up if needed, then run the tests
	$(BIN)/python -m pytest -n auto --dist worksteal
check: .venv/test.ok     ## lint and type-check
	$(BIN)/ruff check .
	$(BIN)/mypy
fmt: .venv/test.ok       ## format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
notebooks: .venv/test.ok ## execute the notebooks and rewrite their outputs
	$(BIN)/python notebooks/execute.py
lock:                    ## refresh the pins (needs uv)
	$(LOCK) -o requirements/run.txt
	$(LOCK) --extra test -c requirements/run.txt -o requirements/test.txt
	$(LOCK) --extra test --extra oracle -c requirements/test.txt -o requirements/oracle.txt
clean:                   ## remove the environment, results and caches
	rm -rf .venv out build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
help:                    ## list targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1 - \2/p' Makefile

# hasim.sim.warm compiles the request kernel, once on a machine (cached in ~/.cache/hasim).
# The stamp is touched last, so a set-up that failed half-way runs again.
.venv/%.ok: requirements/%.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --require-hashes -r $<
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m hasim.sim.warm
	touch $@

.PHONY: run test check fmt notebooks lock clean help
