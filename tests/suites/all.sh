#!/bin/sh
# Other people's tests, on a mesh: CPython's on every interpreter that is here, joblib's, dask's, parsl's.
#
#   tests/suites/all.sh DIRECTORY [python ...]      (called by `make suites`)
#
# Packages go into throw-away environments below DIRECTORY; parsl's into one that an unprivileged user can
# read, and that is removed at the end. Each suite says at its end how many passed.
# CPython's tests are looked for in each interpreter; those that come without are given the ones of
# CPYTHON_TESTS, or of the first interpreter that has some. For a Python that is not here see debian.sh.
set -u
directory=$1; shift
suites=$(cd "$(dirname "$0")" && pwd); root=$(cd "$suites/../.." && pwd)
export PYTHONPATH="$root/protocol:$root/engine:$root/nodes:$root/bench:$suites"
ours="pyzmq msgpack msgspec lz4 cloudpickle numpy rich"
failed=0
mkdir -p "$directory" && directory=$(cd "$directory" && pwd) && cd "$directory" || exit 1
pytest="-m pytest -q -c /dev/null -p no:cacheprovider" # not this repository's settings

environment() { # where, interpreter, packages: make it unless it is there
    where=$1; python=$2; shift 2
    [ -e "$where/ready" ] && return
    rm -rf "$where"
    "$python" -m venv "$where" &&
        "$where/bin/pip" --no-input install -q --disable-pip-version-check "$@" && touch "$where/ready"
}

tests_of() { # interpreter: the directory of its executor tests, if it has them
    "$1" -c 'import os, sys, glob; d = os.path.join(os.path.dirname(os.__file__), "test")
glob.glob(d + "/test_concurrent_futures*") and print(d)'
}

spare=${CPYTHON_TESTS:-}
for python in "$@"; do
    found=$(tests_of "$python") && [ -n "$found" ] && [ -z "$spare" ] && spare=$found
done
for python in "$@"; do
    name=cpython-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    # shellcheck disable=SC2086
    environment "$directory/$name" "$python" $ours || { failed=1; continue; }
    from=""; [ -n "$(tests_of "$python")" ] || from=$spare
    echo "== CPython's tests of executors, $("$python" --version)${from:+, from $from}"
    "$directory/$name/bin/python" "$suites/cpython.py" ${from:+--tests "$from"} \
        > "$directory/$name.log" 2>&1
    status=$?
    tail -n 1 "$directory/$name.log"
    [ $status = 0 ] || [ $status = 3 ] || failed=1
done

run() { # name, what, command...
    name=$1; echo "== $2"; shift 2
    "$@" > "$directory/$name.log" 2>&1 || failed=1
    tail -n 1 "$directory/$name.log"
}

first=$1
# shellcheck disable=SC2086
if environment "$directory/joblib" "$first" $ours pytest pandas scikit-learn joblib "dask[bag,delayed]"; then
    bin=$directory/joblib/bin
    # shellcheck disable=SC2086
    run joblib "joblib's tests, loky's place taken by a mesh" "$bin/python" $pytest --rootdir "$directory" -p with_joblib \
        -k loky --pyargs joblib.test.test_parallel
    # shellcheck disable=SC2086
    run dask "dask's tests of bags and delayed values" "$bin/python" $pytest --rootdir "$directory" -p with_dask \
        --pyargs dask.bag.tests.test_bag dask.tests.test_delayed
    # shellcheck disable=SC2086
    run dask-graphs "our own tests of dask's graphs" "$bin/python" $pytest --rootdir "$directory" \
        --confcutdir "$suites" "$suites/test_dask.py"
    run scikit-learn "scikit-learn, bit by bit" "$bin/python" "$suites/sklearn_equal.py"
else
    failed=1
fi

parsl() { # never as root: some of its tests expect that permissions of files are enforced
    as=""
    if [ "$(id -u)" = 0 ]; then
        command -v setpriv > /dev/null && group=$(id -g nobody 2> /dev/null) ||
            { echo "skipped: they must not run as root, and no user \`nobody\` is here to run them"; return; }
        as="setpriv --reuid=nobody --regid=$group --clear-groups"
    fi
    room=$(mktemp -d /tmp/stealmesh-parsl.XXXXXX) && trap 'rm -rf "$room"' EXIT && chmod 755 "$room" || return 1
    for python in "$first" /usr/bin/python3 ""; do
        $as "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && break
    done
    [ -n "$python" ] || { echo "skipped: no Python 3.11 or later that an unprivileged user may run"; return; }
    # shellcheck disable=SC2086
    environment "$room/env" "$python" $ours 'pytest<8' 'parsl[monitoring]' pandas || return 1
    cp -R "$root/protocol" "$root/engine" "$root/nodes" "$root/bench" "$suites" "$room" && mkdir -p "$room/work/tmp" &&
        { [ -z "$as" ] || chown -R nobody "$room/work"; } && cd "$room/work" || return 1
    its=$("$room/env/bin/python" -c 'import parsl, os; print(os.path.dirname(parsl.__file__))')/tests
    # shellcheck disable=SC2086
    $as env -i PATH="$PATH" HOME="$room/work" TMPDIR="$room/work/tmp" LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH="$room/protocol:$room/engine:$room/nodes:$room/bench:$room/suites" \
        "$room/env/bin/python" $pytest "$its" --rootdir "$its" -p with_parsl --config "$room/suites/with_parsl.py" \
        -rs -k "not cleannet" # those need the network
}
# shellcheck disable=SC2310
run parsl "parsl's tests, as an unprivileged user" parsl
exit $failed
