# Sourced by what runs in the emulated machine, with the checkout for its directory.

stage=

# need_machine WHAT: makes the image, or ends the script as if all were well where there can be none.
need_machine() {
    made=0
    if ! tools/packages.sh vm; then
        why="qemu and what makes its image (see above) cannot be installed here"
    else
        timeout 900 tools/vmtest --image || made=$?
        case $made in
        0) return ;;
        125) why="its image (see above) cannot be made here" ;;
        124) why="its image was not made in 15 minutes" ;;
        *) exit "$made" ;;
        esac
    fi
    echo "skipped: $1 in the emulated machine: $why"
    exit 0
}

# make_stage FILE...: a directory, $stage, with a copy of these files and of what was built, to be shared with the machine
# in the checkout's place: that may change meanwhile, and its build/ holds the machine's own disk.
make_stage() {
    stage=$(mktemp -d "$PWD/build/stage-XXXXXX")
    chmod 755 "$stage"
    mkdir "$stage/build"
    cp -a pyproject.toml .venv pyruntime tools "$@" "$stage/"
    cp -a build/bin build/pyruntime.start "$stage/build/"
    # An archive as of an installation: that of the checkout compares times of sources, which lose their nanoseconds on
    # the way, and would compile each of them again for every command.
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
    python=$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
    archive=build/pyruntime.archive
    .venv/bin/python -X no_debug_ranges tools/make-archive.py "$stage/$archive" "$stage" "$site" "$PWD"
    # The snapshot is made there, of that machine's files: it saves each command the start of an interpreter, half a
    # second.
    prepare="build/bin/pyruntime snapshot make --shared || echo 'note: without the snapshot'"
}

# in_machine OPTION... -- COMMAND...: becomes tools/vmtest with the stage; for a subshell.
in_machine() {
    exec tools/vmtest --share "$stage=$PWD" --directory "$PWD" --prepare "$prepare" "$@"
}
