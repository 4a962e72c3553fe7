# Each target does its own set-up: a fresh clone needs nothing but Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export TF_CPP_MIN_LOG_LEVEL = 2

PAGES ?= 100000
NOTEBOOKS = $(wildcard nbs/lib/*.ipynb nbs/demo/*.ipynb nbs/[0-9i]*.ipynb nbs/run/*.ipynb nbs/guides/*.ipynb)
.PHONY: help run test test-slow test-notebook test-browser fuzz bench bench-browser bench-download bench-preprocess browser runtime lab docs example picture export notebooks git-setup lock clean

# JupyterLab on this machine alone, which asks no server for news or newer versions
LAB_OPTIONS = --ip=127.0.0.1 --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.extension_manager=readonly
LAB_SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock settings.ini setup.py pyproject.toml
	@echo "Setting up .venv from requirements.lock; this takes some minutes the first time."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $(READY)

run: $(READY)  ## the whole chain on synthetic posters; prints the address of its report
	@$(BIN)/poster-genres run --profile demo

test: export TF_NUM_INTRAOP_THREADS = 1  # two test processes share the cores: more threads would wait for each other
test: $(READY)  ## everything that must hold before a change lands
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m "not slow"

test-slow: $(READY)  ## the rest: kills in every step, the demo's claims, longer runs
	@$(BIN)/python -m pytest -m slow

fuzz: $(READY)  ## the parser of title pages against 100,000 damaged pages; PAGES=n for another number
	@FUZZ_PAGES=$(PAGES) $(BIN)/python -m pytest -q tests/test_parser.py -k many_pages

bench: bench-download bench-preprocess  ## both comparisons of speed below; ARCHIVE=a folder of real posters

bench-download: $(READY)  ## speed, CPU and memory of the download beside img2dataset; ARCHIVE=a folder of real posters
	@$(BIN)/python benchmarks/download.py $(ARCHIVE)

test-notebook: $(READY)  ## the tests of one notebook: make test-notebook NB=run/pipeline
	@$(BIN)/nbdev_test --path nbs/$(NB).ipynb --n_workers 0

test-browser: browser runtime $(READY)  ## all tests of reports, site and JupyterLab in Chromium
	@$(BIN)/python -m pytest tests/test_report_pages.py tests/test_site.py tests/test_try_page.py tests/test_lab.py

browser: $(READY)  ## Chromium (Debian's) and axe-core for the browser tests, where they are missing
	@sh tests/browser_tools/install.sh $(BIN)

bench-browser: browser docs  ## speed of the page that names genres in the browser; its small print shows the figures
	@$(BIN)/python benchmarks/try_page.py

bench-preprocess: $(READY)  ## pixels beside the original's way: speed, workers, memory; ARCHIVE=a folder of real posters
	@$(BIN)/python benchmarks/preprocess.py speed $(ARCHIVE)
	@$(BIN)/python benchmarks/preprocess.py workers $(ARCHIVE)
	@$(BIN)/python benchmarks/preprocess.py memory $(ARCHIVE)

lab: $(READY)  ## read and edit the notebooks in JupyterLab
	@mkdir -p .venv/share/jupyter/lab/settings && echo '$(LAB_SETTINGS)' > .venv/share/jupyter/lab/settings/overrides.json
	@cd nbs && $(abspath $(BIN))/jupyter lab $(LAB_OPTIONS) $$([ "$$(id -u)" != 0 ] || echo --allow-root) index.ipynb

runtime: $(READY)  ## LiteRT.js (by npm) for the site's page that names genres in the browser, where it is missing
	@sh docs/try/runtime/install.sh $(BIN)

docs: runtime $(READY)  ## the documentation, built offline into _docs/
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python docs/build.py

example: $(READY)  ## run the demo and keep its report as outputs/example/, the one that is committed
	@$(BIN)/poster-genres run --profile demo
	@rm -rf outputs/example && mkdir outputs/example && cp outputs/demo/report/index.html outputs/demo/report/0*.html outputs/example/
	@cp outputs/demo/evaluation/surest_right.jpg nbs/images/surest.jpg
	@du -sk outputs/example | awk '{ if ($$1 > 4000) { print "outputs/example is " $$1 " KB: expected at most 4000"; exit 1 } }'

picture: browser docs  ## the README's pictures of a report (from outputs/example/) and of the page in the browser
	@$(BIN)/python docs/picture.py outputs/example/index.html _docs nbs/images

export: $(READY)  ## notebooks -> poster_genres/, README.md, and clean notebooks
	@$(BIN)/nbdev_export
	@$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --stdout nbs/index.ipynb \
	    | sed -e 's#](\([0-9a-z_/]*\)\.ipynb)#](nbs/\1.ipynb)#g' -e 's#](images/#](nbs/images/#g' > README.md
	@$(BIN)/nbdev_clean

notebooks: $(READY)  ## run every notebook in place, so that what it shows is current, then export and clean
	@$(BIN)/nbdev_export
	@$(BIN)/jupyter nbconvert --log-level ERROR --to notebook --execute --ExecutePreprocessor.store_widget_state=False \
	    --inplace $(NOTEBOOKS)
	@$(BIN)/python docs/quiet.py $(NOTEBOOKS)
	@$(MAKE) --no-print-directory export

git-setup: $(READY)  ## opt in: readable diffs (nbdime) and merges (nbdev) of notebooks, in this clone only
	@git config diff.jupyternotebook.command '"$(abspath $(BIN))/git-nbdiffdriver" diff'
	@git config merge.nbdev-merge.name "nbdev: merge notebooks cell by cell"
	@git config merge.nbdev-merge.driver '"$(abspath $(BIN))/nbdev_merge" %O %A %B %P'
	@grep -qs jupyternotebook "$$(git rev-parse --git-path info/attributes)" || { mkdir -p "$$(git rev-parse --git-path info)" && \
	    echo '*.ipynb diff=jupyternotebook merge=nbdev-merge' >> "$$(git rev-parse --git-path info/attributes)"; }

lock: $(READY)  ## resolve requirements.lock anew from settings.ini
	@$(BIN)/python -m pip install -qq uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
	    --no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock setup.py
	@$(BIN)/python -m pip install -qq --dry-run --no-deps --require-hashes -r requirements.lock

clean:  ## delete the environment and the cache; runs stay
	rm -rf .venv outputs/cache
