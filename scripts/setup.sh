#!/bin/sh
# Usage: setup.sh VENV LOCK
# Makes the virtual environment VENV with the pinned, hashed packages of requirements/LOCK.txt and epochd itself.
# Quick and harmless when it is there already.
set -eu

venv=$1
lock=requirements/$2.txt
log=$venv/setup.log

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# What is installed is named by the locks' contents. "dev" holds all of "train", so it satisfies both.
wanted=$(cat "requirements/$2.txt" pyproject.toml | cksum | tr -d ' \t')
if [ -f "$venv/.$2-$wanted" ]; then
    exit 0
fi

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$(find_python) || fail "Python 3.11, 3.12 or 3.13 with venv is needed; set PYTHON to where it is"
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "$python could not make a virtual environment"
fi

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 "$@" >>"$log" 2>&1
}

# uv takes a tenth of pip's time, but it does not read which index pip was told to take everything from.
install_fast() {
    if "$venv/bin/python" -m pip config list | grep -Eq "\.(index-url|no-index)="; then
        return 1
    fi
    # Where Python may keep nothing compiled, every start would compile TensorFlow anew, and take 12 seconds, not 5.
    "$venv/bin/uv" pip install --quiet --system-certs ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} \
        --python "$venv/bin/python" "$@" >>"$log" 2>&1
}

: >"$log"
say "installing $(grep -c '^[a-z0-9].*==' "$lock") pinned packages; this takes a minute or two"
install --require-hashes -r requirements/build.txt ||
    fail "the build tools could not be installed. Is the package index reachable? The details are in $log"
install_fast --require-hashes -r "$lock" || install --require-hashes -r "$lock" ||
    fail "the packages could not be installed. Is the package index reachable? The details are in $log"
install --no-deps --no-build-isolation --editable . ||
    fail "epochd itself could not be installed; the details are in $log"

rm -f "$venv"/.train-* "$venv"/.dev-*
touch "$venv/.$2-$wanted"
if [ "$2" = dev ]; then
    touch "$venv/.train-$(cat requirements/train.txt pyproject.toml | cksum | tr -d ' \t')"
fi
say "done"
