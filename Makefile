# Every task of the project, the same here and in CI. `make help` lists them.
PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
DESTDIR ?=

VENV := .venv/bin/python
READY := .venv/.ready
LAUNCHER := build/bin/pyruntime
SHIM := build/bin/containerd-shim-pyruntime-v1
PLACE := build/.place
ARCHIVE := build/pyruntime.archive
# no: the launcher never uses a snapshot of the interpreter, and none is made (docs/snapshot.md); yes needs x86-64.
SNAPSHOT ?= $(if $(filter x86_64,$(shell uname -m)),yes,no)
export SNAPSHOT
# Where the dependencies are, and the interpreter's real file.
SITE = $$($(VENV) -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
REAL_PYTHON = $$($(VENV) -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
MAKEFLAGS += --no-print-directory

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-19s %s\n", $$1, $$2 }'

build: build-packages $(READY) $(LAUNCHER) $(SHIM) ## the virtual environment, the kernel module, build/bin/pyruntime
	@$(VENV) native/build.py
	@if [ -e oci-spec/compile.py ]; then $(VENV) oci-spec/compile.py; fi
	@$(VENV) tools/compile-messages.py
	@$(VENV) -X no_debug_ranges tools/make-archive.py $(ARCHIVE) "$(CURDIR)" "$(SITE)"
	@[ "$(SNAPSHOT)" = no ] || $(LAUNCHER) snapshot make || \
	    echo "note: without a snapshot every command takes some milliseconds longer (docs/snapshot.md)"

%-packages:
	@tools/packages.sh $*

# It decides itself whether there is something to do: after make PYTHON=..., too, and in a checkout that was moved.
$(READY): always | build-packages
	@tools/venv.sh "$(PYTHON)" $(if $(filter file default undefined,$(origin PYTHON)),,asked)

# What is compiled into the programs: where they are, the interpreter, and whether they use a snapshot.
$(PLACE): always $(READY)
	@mkdir -p build && echo "$(CURDIR) $(REAL_PYTHON) $(SITE) $(SNAPSHOT)" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(LAUNCHER): native/launcher.c native/loader.h native/freestanding.h native/processor.h tools/compile-launcher.sh $(PLACE)
	@tools/compile-launcher.sh $@ "$(REAL_PYTHON)" "$(CURDIR)/$(ARCHIVE)" "$(CURDIR)" "$(SITE)"
	@cp $@ build/pyruntime.start.new && mv build/pyruntime.start.new build/pyruntime.start
	@echo built $@

$(SHIM): native/containerd-shim.c native/freestanding.h tools/compile-shim.sh $(PLACE)
	@tools/compile-shim.sh $@ "$(CURDIR)/$(LAUNCHER)"
	@echo built $@

run: build run-packages ## a container that shows where it is (root)
	@tools/demo.sh

test: build test-packages ## all tests that this machine can run
	@[ "$$(id -u)" = 0 ] || echo "note: not root: tests that need it will be skipped"
	@$(VENV) -m pytest $(ARGS)

test-sanitized: build test-packages ## unit tests and some of tests/linux with native/ compiled for ASan and UBSan
	@tools/instrumented/test-sanitized.sh $(ARGS)

coverage: build test-packages .venv/.coverage ## unit tests and tests/linux, and which lines of pyruntime they run (root)
	@tools/instrumented/coverage.sh $(ARGS)

.venv/.coverage: pyproject.toml $(READY)
	@$(VENV) tools/dependencies.py coverage > .venv/coverage.txt
	@$(VENV) -m pip install -q --disable-pip-version-check -r .venv/coverage.txt
	@touch $@

test-vm: build ## tests on pure cgroup v2 with systemd, and as an ordinary user, in an emulated machine (root)
	@ENGINES_RELEASE="$(ENGINES_RELEASE)" tools/test-vm.sh $(ARGS)

test-arm64: arm64-packages ## make build, make run, unit tests and tests/linux in an emulated arm64 machine (root, hours)
	@tools/test-arm64 $(ARGS)

test-engines: build engines-packages .venv/.engines ## containerd, docker, podman, buildah (root); docs/engines.md has its settings
	@[ "$$(id -u)" = 0 ] || echo "note: not root: tests that need it will be skipped"
	@from="$${ENGINES_FROM:-}"; \
	    [ -z "$(ENGINES_RELEASE)" ] || from=$$(tools/engines/fetch "$(ENGINES_RELEASE)") || exit 1; \
	    ENGINES_FROM=$$from $(VENV) -m pytest tests/engines $(ARGS)

test-programs: build ## nginx, redis, PostgreSQL and Python of Debian under what `learn` has learnt (root)
	@$(VENV) -m pytest tests/programs $(ARGS)

.venv/.engines: pyproject.toml $(READY)
	@$(VENV) tools/dependencies.py engines > .venv/engines.txt
	@$(VENV) -m pip install -q --disable-pip-version-check -r .venv/engines.txt
	@touch $@

test-faults: build test-packages ## every command broken off at every point; 200 containers at once (root)
	@$(VENV) tests/faults/sweep.py $(ARGS)
	@$(VENV) tests/faults/sweep.py --rootless --seconds 240 $(ARGS)
	@PYRUNTIME_TEST_TOGETHER=200 $(VENV) -m pytest -q -rP tests/faults/test_together.py

test-fuzz: build ## 100000 made-up configs, and as root 2000 containers of some (ARGS="--seconds N")
	@$(VENV) tests/faults/fuzz.py $(ARGS)

check: check-lint check-format check-types check-native ## ruff, mypy --strict, C with warnings as errors

check-lint: build
	$(VENV) -m ruff check

check-format: build
	$(VENV) -m ruff format --check --quiet

check-types: build
	$(VENV) -m mypy

check-native: build
	@$(VENV) native/build.py --force
	@CFLAGS_CHECK=-fanalyzer tools/compile-shim.sh build/check/containerd-shim /runtime
	@CFLAGS_CHECK=-fanalyzer tools/compile-launcher.sh build/check/launcher /python /archive /library /site
	@for source in shim spawn filter snapshot placement tracer; do \
	    $${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror -fanalyzer \
	        -c native/$$source.c -o /dev/null || exit 1; \
	done
	@for source in shim spawn; do \
	    $${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -DPORTABLE -c native/$$source.c -o /dev/null || exit 1; \
	done

bench: build bench-packages ## ours, runc and crun, interleaved on one bundle (root)
	@$(VENV) tests/bench/bench.py $(ARGS)

conformance: build ## the OCI runtime-tools suite (root)
	@conformance/run $(ARGS)

conformance-cgroups: build ## the suite's programs about cgroups: here, then in the emulated machine (root)
	@status=0; conformance/run --only 'linux_cgroups_*' || status=$$?; \
	    conformance/in-vm --only 'linux_cgroups_*' && exit $$status

docs: build .venv/.docs ## the documents as a site, in build/site
	$(VENV) -m mkdocs build -q -f tools/site/mkdocs.yml
	@echo built build/site/index.html

.venv/.docs: pyproject.toml | $(READY)
	$(VENV) tools/dependencies.py docs > .venv/requirements-docs.txt
	$(VENV) -m pip install -q --disable-pip-version-check -r .venv/requirements-docs.txt
	@touch $@

install: build ## PREFIX/bin/pyruntime, PREFIX/lib/pyruntime, man page, completion; PREFIX is /usr/local, below DESTDIR
	@tools/install.sh install "$(PREFIX)" "$(DESTDIR)"

deb: deb-packages ## a package for this release of Debian, in dist/, and what lintian says of it
	@packaging/make-deb.sh dist
	@lintian --fail-on error dist/pyruntime_*.deb

dist: build deb-packages ## a release in dist/: sdist, wheel, Debian package, SBOM (CycloneDX), checksums
	@packaging/make-dist.sh dist

test-dist: build deb-packages ## that a release is the same bytes when it is built again elsewhere
	@packaging/test-dist.sh

rpm: rpm-packages ## an RPM package in dist/; its installation is not tested
	@packaging/make-rpm.sh dist

SUITE ?= $(shell . /etc/os-release && echo $${VERSION_CODENAME:-sid})
test-deb: ## the package, installed, upgraded and removed in a minimal Debian SUITE, with and without engines (root)
	@packaging/test-deb.sh $(SUITE)

uninstall: ## removes what install made
	@tools/install.sh uninstall "$(PREFIX)" "$(DESTDIR)"

clean: ## removes what was built, but for .venv
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis pyruntime/kernel/*.abi3.so
	find pyruntime native oci-spec tests conformance tools -name __pycache__ -type d -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## removes .venv too
	rm -rf .venv

always:

.PHONY: always help build run test test-sanitized coverage test-vm test-arm64 test-engines test-programs check check-lint check-format check-types check-native bench conformance conformance-cgroups docs install dist test-dist deb test-deb rpm uninstall clean distclean
