# Sourced by demo.sh and test.sh: makes a virtual environment with the package in it.
#
# Environment variables:
#   PYTHON  the Python to start from (default: the first of python3, python3.14, ..., python3.11 that will do)
#   VENV    where the virtual environment lives (default: .venv beside the README)
# shellcheck shell=bash

case "${VENV:=}" in
    "") VENV="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv" ;;
    /*) ;;
    *) VENV="$PWD/$VENV" ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
SECONDS=0

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'Error: %s\n' "$*" >&2; exit 1; }

# as_root COMMAND...: runs it as root or through sudo without a password; fails where neither is possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE...: installs those that are missing; fails where that is not possible.
apt_install() {
    local package missing=()
    command -v apt-get >/dev/null || return 1
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    [ "${#missing[@]}" = 0 ] && return 0
    say "Installing system packages: ${missing[*]}"
    as_root apt-get update -qq || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

make_venv() {
    local python version
    if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    python=$(find_python) || die "Python 3.11 or newer is needed; install it, or name it: PYTHON=/path/to/python."
    say "Making the virtual environment $VENV with $python"
    if ! "$python" -m venv "$VENV" >/dev/null 2>&1; then
        # Debian ships venv as a package of its own.
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "python$version-venv" || apt_install python3-venv ||
            die "$python cannot make virtual environments; install the package python$version-venv."
        "$python" -m venv --clear "$VENV" || die "The virtual environment $VENV could not be made."
    fi
}

# install EXTRAS [GROUP...]: the package, editable, with its extras and dependency groups.
install() {
    local extras=$1 pip=("$VENV/bin/python" -m pip --disable-pip-version-check) stamp wanted
    shift
    stamp="$VENV/.boxprompt-$extras$(printf -- '-%s' "$@")"
    wanted=$({ pwd; cat pyproject.toml; } | cksum)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return 0
    fi
    say "Installing (the first time a few minutes, mostly PyTorch)"
    "${pip[@]}" install -q --upgrade "pip>=25.1"
    # First and by itself, so that whatever build of PyTorch is here, or pip's default, is what stays.
    "$VENV/bin/python" -c 'import torch, torchvision' 2>/dev/null || "${pip[@]}" install -q torch torchvision
    "${pip[@]}" install -q -e ".[$extras]" "${@/#/--group=}"
    printf '%s\n' "$wanted" >"$stamp"
}

# under_display COMMAND...: runs it with a display, a virtual one where there is none.
under_display() {
    if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || [ "$(uname -s)" != Linux ]; then
        "$@"
    elif command -v xvfb-run >/dev/null; then
        xvfb-run -a "$@"
    else
        say "No display and no xvfb-run: going on without"
        "$@"
    fi
}

# What a Qt window needs besides Qt itself.
qt_libraries() {
    [ "$(uname -s)" = Linux ] || return 0
    apt_install xvfb xauth libgl1 libegl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 \
        libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3 ||
        say "Could not install what windows need (xvfb and Qt's X libraries): tests of windows may fail"
}

wall_time() { say "$1: $((SECONDS / 60)) min $((SECONDS % 60)) s, everything included"; }
