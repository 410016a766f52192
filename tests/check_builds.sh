#!/bin/sh
# check_builds.sh -- no warnings: every compiler that is here, every way to build the file.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${LIBS:=-pthread -lmbedtls -lmbedx509 -lmbedcrypto -lcares -lmxml}" "${INCLUDES:=}"
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
        echo "not ok $n - $name"
        sed 's/^/# /' "$work/said"
    fi
}

echo '#include "xmppedge.h"' >"$work/header.c"

# gcc's optimiser sees more, so it builds the program as it is shipped: by the one line of README.md.  clang
# needs none, nor do the variants.  In two of them functions are left over that only the missing part calls.
# shellcheck disable=SC2086
for compiler in $compilers; do
    flags="$compiler $STD $WARN -Werror -I. $INCLUDES"
    object="-c -o $work/x.o xmppedge.c"
    [ $compiler != clang ] || object="-fsyntax-only xmppedge.c"
    try "$compiler builds the program without a warning" $flags $object
    try "$compiler builds it with poll() instead of epoll" $flags -DXMPPEDGE_POLL $object
    try "$compiler builds it without threads" $flags -DXMPPEDGE_NO_THREADS $object
    try "$compiler builds it without libidn2" $flags -UXMPPEDGE_IDN2 $object
    try "$compiler builds it without assertions" $flags -DNDEBUG $object
    try "$compiler builds it without getifaddrs()" $flags -DXMPPEDGE_NO_IFADDRS $object
    try "$compiler builds it for embedding" \
        $flags -Wno-unused-function -DXMPPEDGE_NO_MAIN $object
    try "$compiler builds the language half" \
        $flags -Wno-unused-function -DXMPPEDGE_LANGUAGE_ONLY $object
    try "$compiler reads the header alone" $flags -fsyntax-only "$work/header.c"
done
line=$(sed -n 's/^ *\(cc -std=c99 .*\)/\1/p' README.md)
case $LIBS in *mxml4*) line=$(echo "$line" | sed "s|-lmxml|$(pkg-config --cflags --libs mxml4)|") ;; esac
try 'the one line of README.md is all it takes' \
    sh -c "$(echo "$line" | sed "s|-o xmppedge|$WARN -Werror -o $work/xmppedge|")"
try 'which runs' sh -c "'$work/xmppedge' --version | grep -q '^xmppedge '"
echo "1..$n"
