#!/bin/sh
# measure.sh -- both halves of the source in numbers, and what an edit costs until its tests have run.
#
#   measure.sh [TREE...]          lines, functions, comments, duplicates: a column each tree
#   measure.sh --times [TREE...]  processor seconds; each tree is copied and built first
#
# TREE is a folder with the source, this one if none is given.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

# columns TITLE FILE...: lines NAME TAB VALUE, the names once.
columns() {
    title=$1
    shift
    echo "$title"
    awk -F '\t' '
        !($1 in values) { name[++n] = $1 }
                        { values[$1] = values[$1] sprintf("  %16s", $2) }
        END             { for (i = 1; i <= n; i++) printf "  %-24s%s\n", name[i], values[name[i]] }' "$@"
}

half() {   # half TITLE PATTERN... -- TREE...
    title=$1
    shift
    patterns=
    while [ "$1" != -- ]; do
        patterns="$patterns $1"
        shift
    done
    shift
    n=0
    for tree in "$@"; do
        n=$((n + 1))
        # shellcheck disable=SC2086
        (cd "$tree" && awk -f "$here/tests/measure.awk" $patterns) >"$work/half.$n"
    done
    columns "$title" "$work"/half.*
    rm -f "$work"/half.*
}

# seconds NAME COMMAND...: NAME TAB processor seconds of the command and its children.
seconds() {
    name=$1
    shift
    # shellcheck disable=SC2016  # for the inner shell
    sh -c '"$@" >/dev/null 2>&1 || echo "failed: $*" >&2; times' sh "$@" |
        awk -v name="$name" -F '[ms ]+' 'NR == 2 {
            printf "%s\t%.1f\n", name, $1 * 60 + $2 + $3 * 60 + $4 }'
}

# In a copy of the tree that was tested before the edit.
times_of() {
    mkdir "$work/tree"
    (cd "$1" && tar -c --exclude=./.git --exclude=./build .) | tar -x -C "$work/tree"
    cd "$work/tree"
    # shellcheck disable=SC2016
    stage='for test in $(sh tests/run.sh --list "$1"); do sh tests/run.sh "$test" || exit; done'
    rm -f xmppedge xmppedge-analyze
    make -s all
    sh -c "$stage" sh unit >/dev/null 2>&1
    sh -c "$stage" sh talk >/dev/null 2>&1
    touch xmppedge.c
    seconds 'touch: one unit test' sh tests/run.sh tests/unit/test_jid.c
    touch xmppedge.c
    seconds 'touch: all unit tests' sh -c "$stage" sh unit
    touch xmppedge.c
    seconds 'touch: transcripts' sh -c "$stage" sh talk
    touch xmppedge.c
    seconds 'touch: style' sh -c "$stage" sh style
    awk '{ print } /^#include "xmppedge.h"/ { print "struct edited;" }' xmppedge.c >edited.c
    mv edited.c xmppedge.c
    seconds '[BASE]: one unit test' sh tests/run.sh tests/unit/test_jid.c
    seconds '[BASE]: all unit tests' sh -c "$stage" sh unit
    echo 'struct edited;' >>analyze/html.c
    seconds 'html.c: the analyzer' make xmppedge-analyze
    cd "$here"
    rm -rf "$work/tree"
}

case ${1:-} in
--times) ;;
-*) echo 'usage: measure.sh [--times] [TREE...]' >&2; exit 2 ;;
esac
if [ "${1:-}" = --times ]; then
    shift
    [ $# -gt 0 ] || set -- .
    n=0
    for tree in "$@"; do
        n=$((n + 1))
        times_of "$tree" >"$work/times.$n"
    done
    columns 'after an edit, processor seconds' "$work"/times.*
    exit
fi
[ $# -gt 0 ] || set -- .
half 'xmppedge.c xmppedge.h' 'xmppedge.[ch]' -- "$@"
half 'analyze/' 'analyze/*.[ch]' -- "$@"
