#!/bin/sh
# CPython's tests of executors on a Python that only another release of Debian has, in a chroot.
#
#   tests/suites/debian.sh RELEASE VERSION DIRECTORY      (as root: tests/suites/debian.sh forky 3.14 /tmp/forky)
#
# Needs debootstrap and pip. DIRECTORY keeps the release for the next time; what is mounted in it goes
# with this script.
set -eu
release=$1; version=$2; place=$3
root=$(cd "$(dirname "$0")/../.." && pwd)
packages="pyzmq msgpack msgspec lz4 cloudpickle numpy rich"
python=python$version

if ! [ -e "$place/ready" ]; then
    rm -rf "$place"
    script=/usr/share/debootstrap/scripts/$release
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid # newer than this debootstrap
    debootstrap --merged-usr --variant=minbase --include="$python,$python-venv,lib$python-testsuite" \
        "$release" "$place" "" "$script" > "$place.log" 2>&1
    set -- # wheels are fetched outside, where the network is set up
    for platform in 2014 _2_26 _2_27 _2_28; do set -- "$@" --platform "manylinux${platform}_$(uname -m)"; done
    for abi in "cp$(echo "$version" | tr -d .)" abi3 none; do set -- "$@" --abi "$abi"; done
    # shellcheck disable=SC2086
    python3 -m pip download -q --only-binary=:all: --python-version "$version" "$@" -d "$place/wheels" $packages
    # shellcheck disable=SC2086
    chroot "$place" sh -c "$python -m venv /suite && /suite/bin/pip install -q --no-index --find-links /wheels $packages"
    touch "$place/ready"
fi
rm -rf "$place/stealmesh" && mkdir "$place/stealmesh" "$place/dev/shm" -p
cp -R "$root/protocol" "$root/engine" "$root/nodes" "$root/bench" "$root/tests" "$place/stealmesh"
# shellcheck disable=SC2016
exec unshare --mount sh -c 'mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/dev/shm" &&
    exec chroot "$1" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/bin:/bin /suite/bin/python /stealmesh/tests/suites/cpython.py' \
    sh "$place"
