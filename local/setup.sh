#!/bin/sh
# Sets up everything the project needs, once: virtual environment, locked dependencies, locked jars.
# `setup.sh dev` adds the tools of the tests. A second run finds its stamps and needs no network.
set -eu

cd "$(dirname "$0")/.."
kind="${1:-run}"
venv=.venv

fail() {
  echo "setup: $1" >&2
  exit 1
}

is_python() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$name" ] && is_python "$name"; then
      command -v "$name"
      return
    fi
  done
  fail "Python 3.11 or newer with venv is missing (Debian: apt install python3 python3-venv; or point PYTHON at one)"
}

check_java() {
  java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
  said=$("$java" -version 2>&1) || said=""
  version=$(printf '%s\n' "$said" | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
  [ "${version:-0}" -ge 17 ] ||
    fail "Java 17 or newer is missing (found: ${version:-none}; Debian: apt install openjdk-17-jre-headless; or set JAVA_HOME)"
}

# The stamp of a step is what went into it: when that changes, the step is taken again.
stamp_of() {
  cat "$@" | cksum
  "$venv/bin/python" -c 'import sys; print(sys.version, sys.prefix)'
}

is_done() {
  [ -f "$venv/.stamp-$1" ] && [ "$(cat "$venv/.stamp-$1")" = "$(shift && stamp_of "$@")" ]
}

mark_done() {
  step=$1
  shift
  stamp_of "$@" >"$venv/.stamp-$step"
}

pip_install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

check_java
# A venv that was moved or whose Python is gone is made again: its scripts carry absolute paths.
if ! "$venv/bin/python" -c 'import os, pip, sys; sys.exit(not os.path.samefile(sys.prefix, sys.argv[1]))' "$venv" 2>/dev/null; then
  python=$(find_python)
  echo "setup: making $venv with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
if ! is_done run requirements.lock pyproject.toml; then
  echo "setup: installing the locked dependencies (about 500 MB the first time)"
  pip_install --require-hashes -r requirements.lock
  # The build tools are in the lock: nothing is fetched here.
  pip_install --no-build-isolation --no-deps --editable .
  mark_done run requirements.lock pyproject.toml
fi
if [ "$kind" = dev ] && ! is_done dev requirements-dev.lock; then
  echo "setup: installing the locked tools of the tests"
  pip_install --require-hashes -r requirements-dev.lock
  mark_done dev requirements-dev.lock
fi
"$venv/bin/python" -m local.jars fetch
if [ "$kind" = dev ]; then
  "$venv/bin/python" -m local.jars fetch registry
fi
