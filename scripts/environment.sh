# Sourced by the scripts beside it: the project's own virtual environment, .venv in the checkout.
# shellcheck shell=bash

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=$root/.venv
log=$root/build/install.log
# An empty environment has a PATH that children do not inherit.
export PATH PIP_DISABLE_PIP_VERSION_CHECK=1
cd "$root"

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

say() {
    printf '%s\n' "$1" >&2
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is missing: on Debian and Ubuntu, \`apt install python3 python3-venv\`, or name one in PYTHON."
}

find_compiler() {
    local candidate
    for candidate in ${CXX:-g++ c++ clang++}; do
        if command -v "$candidate" >/dev/null; then return; fi
    done
    fail "A C++ compiler is missing: on Debian and Ubuntu, \`apt install g++\`, or name one in CXX."
}

# Makes .venv unless it is there and whole.
make_environment() {
    local python
    if [ -e "$environment/complete" ] && "$environment/bin/python" -c '' 2>/dev/null; then return; fi
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python's venv module is missing: on Debian and Ubuntu, \`apt install python3-venv\`."
    say "Making a virtual environment in .venv …"
    "$python" -m venv --clear "$environment" ||
        fail "The virtual environment could not be made in $environment: is there space on the disk, and may you write there?"
    touch "$environment/complete"
}

# What pyproject.toml asks for: to build, to run and, with an argument, for that extra.
requirements() {
    "$environment/bin/python" - "$@" <<'PYTHON'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    pyproject = tomllib.load(file)
project = pyproject["project"]
wanted = [*pyproject["build-system"]["requires"], "cmake>=3.26", "ninja", *project["dependencies"]]
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
print("\n".join(wanted))
PYTHON
}

# install_requirements [EXTRA]: fetches what is needed, when the list has changed.
install_requirements() {
    local wanted stamp=$environment/requirements${1:+-$1}
    make_environment
    wanted=$(requirements "$@")
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
    say "Fetching the packages that overclock needs …"
    mkdir -p "$(dirname "$log")"
    if ! "$environment/bin/pip" install --retries 2 --progress-bar off -r /dev/stdin \
        >"$log" 2>&1 <<<"$wanted"; then
        fail "Packages could not be fetched: is the network reachable, and is pip set up for it? (log: $log)"
    fi
    printf '%s\n' "$wanted" >"$stamp"
}

fingerprint() {
    find pyproject.toml CMakeLists.txt cpp src -type f ! -name '*.pyc' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
}

# install_overclock [EXTRA]: builds and installs this checkout, when its sources have changed.
install_overclock() {
    local stamp=$environment/sources now built=
    make_environment
    now=$(fingerprint)
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then built=yes; else find_compiler; fi
    install_requirements "$@"
    if [ -n "$built" ]; then return; fi
    say "Building overclock (a few minutes the first time) …"
    mkdir -p "$(dirname "$log")"
    rm -f "$stamp"
    if ! PATH=$environment/bin:$PATH "$environment/bin/pip" install --no-deps --no-build-isolation \
        --force-reinstall --no-index . >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail "overclock could not be built; the lines above say why. (log: $log)"
    fi
    printf '%s\n' "$now" >"$stamp"
}
