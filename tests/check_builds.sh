#!/bin/sh
# check_builds.sh -- no warnings: every compiler that is here, every way to build the file.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${LIBS:=-lmbedtls -lmbedx509 -lmbedcrypto -lcares -lmxml}"
: "${WARN:=-Wall -Wextra -Wpedantic}"

compilers=
for compiler in gcc clang; do
    ! command -v $compiler >/dev/null 2>&1 || compilers="$compilers $compiler"
done
: "${compilers:=$CC}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

n=0
try() {   # try NAME COMMAND...: no word, no error
    n=$((n + 1))
    name=$1
    shift
    if "$@" >"$work/said" 2>&1 && [ ! -s "$work/said" ]; then
        echo "ok $n - $name"
    else
        sed 's/^/# /' "$work/said"
        echo "not ok $n - $name"
    fi
}

# shellcheck disable=SC2086
for compiler in $compilers; do
    try "$compiler builds the program without a warning" \
        $compiler $STD $WARN -Werror -O2 -o "$work/xmppedge" xmppedge.c $LIBS
    try "$compiler builds it with poll() instead of epoll" \
        $compiler $STD $WARN -Werror -O2 -DXMPPEDGE_POLL -o "$work/xmppedge" xmppedge.c $LIBS
    # What only the missing part calls is left over.
    try "$compiler builds it for embedding" \
        $compiler $STD $WARN -Werror -Wno-unused-function -O2 -DXMPPEDGE_NO_MAIN \
        -c -o "$work/x.o" xmppedge.c $LIBS
    try "$compiler builds the language half" \
        $compiler $STD $WARN -Werror -Wno-unused-function -O2 -DXMPPEDGE_LANGUAGE_ONLY \
        -c -o "$work/x.o" xmppedge.c $LIBS
    try "$compiler builds it without assertions" \
        $compiler $STD $WARN -Werror -O2 -DNDEBUG -o "$work/xmppedge" xmppedge.c $LIBS
    echo '#include "xmppedge.h"' >"$work/h.c"
    try "$compiler reads the header alone" \
        $compiler $STD $WARN -Werror -I. -fsyntax-only "$work/h.c"
done
try 'one line with nothing but the libraries is all it takes' \
    $CC -std=c99 -O2 -o "$work/xmppedge" xmppedge.c $LIBS
try 'which runs' sh -c "'$work/xmppedge' --version | grep -q '^xmppedge ' 2>&1"
echo "1..$n"
