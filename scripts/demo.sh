#!/usr/bin/env bash
# Sets everything up and runs the demonstration: boxes on 5 planes of a real nuclei stack, masks on all others.
# Further words go to 'boxprompt demo', for instance: bash scripts/demo.sh --preset fast
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

make_venv
install demo
say "Running the demonstration"
"$VENV/bin/boxprompt" demo --out demo-output "$@"
wall_time "Demonstration"
