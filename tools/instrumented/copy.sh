# Sourced by test-sanitized.sh and coverage.sh: a copy of the checkout in build/NAME, with programs of its own that run an
# interpreter of ours, so that tests and the runtime's commands are measured alike. It has no snapshot.
cd "$(dirname "$0")/../.."
top=$PWD
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')

# variable NAME: of the interpreter's configuration.
variable() {
    .venv/bin/python -c 'import sys, sysconfig; print(sysconfig.get_config_var(sys.argv[1]) or "")' "$1"
}

# copy_checkout NAME: committed and uncommitted files, except those that git ignores; then change to the copy.
copy_checkout() {
    copy=$top/build/$1
    python=$copy/build/bin/python
    rm -rf "$copy"
    mkdir -p "$copy/build/bin"
    git ls-files -z --cached --others --exclude-standard |
        xargs -0 sh -c 'for file; do [ -e "$file" ] && printf "%s\0" "$file"; done' sh |
        tar -c --null -T - -f - | tar -x -C "$copy" -f -
    ln -s "$top/.venv" "$copy/.venv"
    cd "$copy"
}

# compile_interpreter SOURCE OPTION...: $python, an interpreter with the same libraries as that of .venv.
compile_interpreter() {
    # shellcheck disable=SC2046  # LIBS is a list of options
    ${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror "$@" -isystem "$(variable INCLUDEPY)" -o "$python" \
        -L"$(variable LIBDIR)" -L"$(variable LIBPL)" "-lpython$(variable LDVERSION)" $(variable LIBS)
}

# build_copy: the modules with NATIVE_CFLAGS, the launcher and the shim with CFLAGS_CHECK.
build_copy() {
    .venv/bin/python native/build.py --force
    .venv/bin/python tools/compile-messages.py
    PYTHONPATH=$site "$python" -X no_debug_ranges tools/make-archive.py build/pyruntime.archive "$copy" "$site"
    SNAPSHOT=no tools/compile-launcher.sh build/bin/pyruntime "$python" "$copy/build/pyruntime.archive" "$copy" "$site"
    tools/compile-shim.sh build/bin/containerd-shim-pyruntime-v1 "$copy/build/bin/pyruntime"
    cp build/bin/pyruntime build/pyruntime.start
}
