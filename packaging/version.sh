#!/bin/sh
# Prints the version of the project: VERSION in pyruntime/version.py, the only place that has it.
set -eu
sed -n 's/^VERSION = "\(.*\)"$/\1/p' "$(dirname "$0")/../pyruntime/version.py"
