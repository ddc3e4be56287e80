#!/usr/bin/env bash
# Installs archsearch on Debian or Ubuntu, the same for every image here and for machines without containers.
#
#   docker/install.sh STEP ...
#
# system        Debian packages; needs root
# user          the user archsearch (1000), as whom an image runs; needs root
# dependencies  what archsearch needs, at the pinned versions, into PREFIX
# package       archsearch itself, and a check that it starts
#
# PREFIX    the virtual environment, default /opt/archsearch
# PIP_ARGS  options for pip, such as an index with CPU builds of torch: those are 4 GB smaller
#
# Several steps, because of an image's layers: a change of the code does not download torch again.
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
prefix=${PREFIX:-/opt/archsearch}
read -r -a pip_args <<<"${PIP_ARGS:-}"

install_system() {
    # tini reaps what Ray leaves; wget is what Kubernetes' probes of Ray call.
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv tini wget
    rm -rf /var/lib/apt/lists/*
}

install_user() {
    id archsearch >/dev/null 2>&1 || useradd --uid 1000 --create-home --shell /bin/bash archsearch
}

pip_install() {
    "$prefix/bin/pip" install --no-cache-dir --disable-pip-version-check "${pip_args[@]}" \
        --constraint "$source_dir/docker/constraints.txt" "$@"
}

install_dependencies() {
    python3 -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
    [ -x "$prefix/bin/pip" ] || python3 -m venv "$prefix"
    local names
    mapfile -t names < <(python3 -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
' "$source_dir/pyproject.toml")
    pip_install --prefer-binary "${names[@]}"
}

install_package() {
    pip_install "$source_dir"
    "$prefix/bin/archsearch" --version
}

for step in "${@:-help}"; do
    case $step in
        system | user | dependencies | package) "install_$step" ;;
        *)
            sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "${BASH_SOURCE[0]}" >&2
            exit 2
            ;;
    esac
done
