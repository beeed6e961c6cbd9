#!/usr/bin/env bash
# Makes the virtual environment and installs this checkout into it, editable.
#
#   installers/setup.sh run|test|dev      PYTHON=python3.12 and VENV=folder override what it picks
#
# Quick when nothing has changed: the stamp holds a hash of pyproject.toml, the checkout's place and the Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

purpose=${1:?usage: setup.sh run|test|dev}
venv=${VENV:-.venv}
case $purpose in
run) extra="" ;;
test) extra="[test]" ;;
dev) extra="[dev]" ;;
*) echo "usage: setup.sh run|test|dev" >&2; exit 2 ;;
esac

stop() {
    echo "radiolucent: $1" >&2
    exit 1
}

in_range() {
    "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

pick_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        in_range "$PYTHON" && { echo "$PYTHON"; return; }
        stop "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1); needs Python 3.11, 3.12 or 3.13"
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        in_range "$candidate" && { echo "$candidate"; return; }
    done
    stop "needs Python 3.11, 3.12 or 3.13, found $(python3 --version 2>&1 | head -n 1); install one (apt-get install python3.12 python3.12-venv) and name it: make run PYTHON=python3.12"
}

# 1. What the machine must have. The engine alone needs no Qt, so no display means a shorter list.
python=$(pick_python)
if [ "$purpose" = run ]; then
    need=engine
    if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then need=window; fi
else
    need=test
fi
"$python" installers/check_system.py "$need"

# 2. Is there anything to do? What tests need includes what running needs.
stamp="$venv/.installed"
state=$({ cat pyproject.toml; pwd -P; "$python" --version; } | cksum)
have() { [ -f "$stamp" ] && [ "$(tail -n 1 "$stamp")" = "$state" ] && grep -qxE "$1" "$stamp"; }
case $purpose in
run) have 'run|test|dev' && exit 0 ;;
test) have 'test|dev' && exit 0 ;;
dev) have 'dev' && exit 0 ;;
esac

# 3. The environment. One that does not start, or of another Python, is made anew.
version() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }
if [ "$(version "$venv/bin/python" || true)" != "$(version "$python")" ]; then
    short=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        stop "this Python cannot make virtual environments; install: sudo apt-get install python$short-venv"
    echo "Making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
rm -f "$stamp"

# 4. The packages. pip's own talk goes to a log; one line per package tells that it is alive.
log="$venv/install.log"
echo "Installing into $venv; the first time takes some minutes, and 6 GB where PyTorch comes with CUDA (log: $log)"
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    --editable ".$extra" 2>&1 | tee "$log" |
    awk '/^Collecting/ { sub(/[<>=!~;\[ ].*/, "", $2); print "  " $2; fflush() }
         /^Processing .*[.]whl/ { sub(/.*\//, "", $2); sub(/-[0-9].*/, "", $2); print "  " $2; fflush() }
         /^Installing collected/ { print "  unpacking " NF - 3 " packages"; fflush() }'; then
    grep -E '^ERROR|^error|rror: ' "$log" | tail -n 3 >&2 || true
    if grep -qi 'no space left' "$log"; then
        stop "the disk is full; free 8 GB, or install PyTorch's CPU build into $venv first, then run this again"
    elif grep -qiE 'name resolution|connection (refused|error|broken)|max retries|timed out' "$log"; then
        stop "pip did not reach the package index; check the network or set pip's proxy or index, then run this again"
    elif grep -qi 'no matching distribution' "$log"; then
        stop "a package has no build for $("$python" --version) on $(uname -sm); try another Python of 3.11 to 3.13 with PYTHON="
    fi
    stop "pip could not install; see $log"
fi
printf '%s\n%s\n' "$purpose" "$state" >"$stamp"
