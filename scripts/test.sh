#!/usr/bin/env bash
# Sets everything up and runs all tests; further words go to pytest, for instance: bash scripts/test.sh -k boxes
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

make_venv
install demo test gui
qt_libraries
say "Running the tests"
# Part of the tests says nothing about how much of the code all tests cover.
[ "$#" -gt 0 ] || set -- --cov --cov-report=term
status=0
under_display "$VENV/bin/python" -m pytest "$@" || status=$?
wall_time "Tests"
exit "$status"
