#!/bin/sh
# Makes .venv from uv.lock with nothing but Python 3.11 or newer; `make bootstrap` runs it. PYTHON= names an interpreter,
# VENV= another folder. Each way it can fail ends in one line that says what to do; the long story is in its bootstrap.log.
set -eu
cd "$(dirname "$0")/../.."

UV_VERSION=0.13.9
VENV=${VENV:-.venv}
LOG=$VENV/bootstrap.log

fail() {
    printf 'bootstrap: %s\n' "$*" >&2
    exit 1
}

is_supported() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

interpreter() {
    if [ -n "${PYTHON:-}" ]; then
        is_supported "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer: name another one."
        printf '%s' "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if is_supported "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer, found $(python3 --version 2>&1 || true): install one, or name it: make PYTHON=/path/to/python3.12"
}

# An environment whose interpreter is gone, too old or not the named one is made anew.
wanted=$(interpreter)
if [ -e "$VENV" ]; then
    is_supported $VENV/bin/python || rm -rf "$VENV"
fi
if [ -e "$VENV" ] && [ -n "${PYTHON:-}" ]; then
    version='import sys; print(sys.version_info[:2])'
    [ "$("$wanted" -c "$version")" = "$($VENV/bin/python -c "$version")" ] || rm -rf "$VENV"
fi
if [ ! -e "$VENV" ]; then
    printf 'bootstrap: making %s with %s\n' "$VENV" "$("$wanted" --version)"
    "$wanted" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$wanted has no venv module: install it (Debian and Ubuntu: apt install python3-venv)."
    "$wanted" -m venv "$VENV" || fail "cannot make $VENV: see above."
fi

index=${PIP_INDEX_URL:-$($VENV/bin/python -m pip config get global.index-url 2>/dev/null || true)}
if [ -n "$index" ]; then
    export UV_DEFAULT_INDEX="$index"
fi
# The system's certificates, for mirrors with an authority of their own; no interpreter but ours.
export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV="$PWD/$VENV"
no_network="check the network, or point PIP_INDEX_URL at a mirror of PyPI (details: $LOG)."

if [ "$($VENV/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
    $VENV/bin/python -m pip install --disable-pip-version-check --quiet "uv==$UV_VERSION" >"$LOG" 2>&1 ||
        fail "cannot install uv $UV_VERSION: $no_network"
fi
# Not `uv sync`: behind a mirror --locked fails, and --frozen goes to the address in the lock file.
$VENV/bin/uv export --frozen --all-packages --quiet --output-file "$VENV/requirements.txt" >"$LOG" 2>&1 ||
    fail "cannot read uv.lock (details: $LOG)."
printf 'bootstrap: installing %s packages\n' "$(grep -cE '^[a-z-]' "$VENV/requirements.txt")"
$VENV/bin/uv pip sync --quiet "$VENV/requirements.txt" >"$LOG" 2>&1 ||
    fail "cannot install what uv.lock names: $no_network"
