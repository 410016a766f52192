#!/bin/sh
# check_matrix.sh -- other compilers, other levels, other versions of the libraries.  TAP; make matrix.
#
# TRIXIE names a directory with a newer Debian in it (a chroot: gcc, the libraries and cmocka); what
# is tested there is copied into its /tmp.  That needs root.
set -eu
: "${STD:=-std=c99}" "${LIBS:=-lmbedtls -lmbedx509 -lmbedcrypto -lcares -lmxml}" "${TRIXIE:=}"
: "${WARN:=-Wall -Wextra -Wpedantic}"

work=$(mktemp -d)
inside=
finish() {
    rm -rf "$work"
    [ -z "$inside" ] || rm -rf "$TRIXIE$inside"
}
trap finish EXIT
trap 'exit 1' INT TERM

n=0
failed=0
try() {   # try NAME COMMAND...
    n=$((n + 1))
    name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok $n - $name"
    else
        tail -n 40 "$work/said" | sed 's/^/# /'
        echo "not ok $n - $name"
        failed=1
    fi
}

# shellcheck disable=SC2086
build() {   # build COMPILER FLAGS...
    compiler=$1
    shift
    $compiler $STD $WARN -Werror "$@" -o "$work/xmppedge" xmppedge.c $LIBS
}
demo() { timeout 60 "$work/xmppedge" demo; }

for compiler in gcc gcc-12 gcc-13 gcc-14 clang clang-14 clang-19; do
    command -v $compiler >/dev/null 2>&1 || continue
    for flags in -O0 -O2 '-O3 -flto' '-Os -DNDEBUG' '-O2 -D_FORTIFY_SOURCE=2' '-O2 -DXMPPEDGE_POLL' \
            '-O1 -fsanitize=address,undefined -fno-sanitize-recover=all' '-O2 -funsigned-char'; do
        # shellcheck disable=SC2086
        try "$compiler $flags builds it" build $compiler $flags
        [ "$failed" -ne 0 ] || try "$compiler $flags: the demo works" demo
    done
done

if [ -n "$TRIXIE" ]; then
    inside=/tmp/xmppedge-matrix.$$
    mkdir "$TRIXIE$inside"
    cp -R xmppedge.c xmppedge.h Makefile README.md LICENSE tests "$TRIXIE$inside/"
    in_chroot() { chroot "$TRIXIE" sh -c "cd $inside && $1"; }
    try "$TRIXIE: make" in_chroot make
    try "$TRIXIE: $(in_chroot './xmppedge --version' || echo 'no version')" in_chroot ./xmppedge\ --version
    try "$TRIXIE: the demo works" in_chroot 'timeout 60 ./xmppedge demo'
    for source in tests/unit/test_*.c tests/embed/*.c; do
        # prove: a program that breaks off has not succeeded
        try "$TRIXIE: $source" in_chroot "prove --exec 'sh tests/run.sh' $source"
    done
fi
echo "1..$n"
