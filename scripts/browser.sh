#!/bin/sh
# Usage: browser.sh
# Installs Debian's Chromium and a font with Japanese letters, which the page's tests and pictures need, where that may
# be done: by root, with apt-get. Elsewhere it says in one line what is missing. It never fails: without a browser the
# tests of the page are skipped, and say so. Quick where both are there.
set -u

say() { printf 'browser: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# The names that tests/acceptance/page/conftest.py looks for.
browser() { has chromium || has chromium-browser || has google-chrome || has google-chrome-stable; }

wanted=
browser || wanted=chromium
if has fc-list && [ -n "$(fc-list :lang=ja)" ]; then :; else wanted="$wanted fonts-ipafont-gothic"; fi

if [ -z "$wanted" ]; then
    exit 0
fi
if ! has apt-get || [ "$(id -u)" -ne 0 ]; then
    browser || say "no Chromium or Chrome is here: the page's tests are skipped. On Debian, as root: apt-get install $wanted"
    exit 0
fi

say "installing $wanted; this takes a minute"
log=$(mktemp)
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=30 "$@" </dev/null >>"$log" 2>&1; }
apt update || true # an index that is there may do
# shellcheck disable=SC2086 # these are words
if apt install -y --no-install-recommends fontconfig $wanted && browser; then
    rm -f "$log"
elif browser; then
    say "a font with Japanese letters could not be installed: pictures in Japanese show boxes. The details are in $log"
else
    say "Chromium could not be installed: the page's tests are skipped. The details are in $log"
fi
exit 0
