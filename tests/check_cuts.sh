#!/bin/sh
# check_cuts.sh -- xmppedge.c, cut after any section, still compiles: a section needs nothing that
# stands below it.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${INCLUDES:=}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# shellcheck disable=SC2046
set -- $(sed -n 's/^ \* \[\([A-Z0-9]*\)\] .*/\1/p' xmppedge.c)
echo "1..$#"
n=0
for section in "$@"; do
    n=$((n + 1))
    # shellcheck disable=SC2086
    if awk -v after="$section" -f tests/cut.awk xmppedge.c >"$work/cut.c" 2>"$work/errors" &&
            $CC $STD -w -I. $INCLUDES -fsyntax-only -Werror=implicit-function-declaration \
                "$work/cut.c" 2>"$work/errors"; then
        echo "ok $n - the file cut after $section compiles"
    else
        echo "not ok $n - the file cut after $section compiles"
        sed 's/^/# /' "$work/errors"
    fi
done
