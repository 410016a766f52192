#!/bin/sh
# matrix.sh -- every compiler, optimisation and way to build; with each compiler, the unit tests.  TAP.
#
#   sh tests/matrix.sh                on this machine
#   TRIXIE=dir sh tests/matrix.sh     and in a chroot with another Debian in it
#
# The chroot needs gcc clang libc6-dev libmbedtls-dev libmxml-dev libc-ares-dev libcmocka-dev
# libexpat1-dev; openssl; and /proc and /dev.
#
# matrix.sh inside WHERE is one of the two parts: lines without numbers, each ending with WHERE.
# Some minutes each.  STD and WARN come from the Makefile.
set -eu

: "${STD:=-std=c99}"
: "${WARN:=-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
-Wswitch-enum -Wvla -Wconversion -Wundef -Wformat=2}"
OPTIMISE='-O0 -O2 -O3 -Os'
DEFINE='none -DXMPPEDGE_POLL -DNDEBUG -DXMPPEDGE_NO_MAIN -DXMPPEDGE_LANGUAGE_ONLY'

# try NAME COMMAND...: it succeeds; with a compiler and -Werror that means without a warning.
try() {
    name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok - $name, $where"
    else
        echo "not ok - $name, $where"
        tail -n 40 "$work/said" | sed 's/^/# /'
    fi
}

# mxml --cflags | --libs: Mini-XML is mxml4.pc in version 4 and mxml.pc before.
mxml() {
    pkg-config "$1" mxml4 2>/dev/null || pkg-config "$1" mxml 2>/dev/null || {
        [ "$1" = --cflags ] || echo -lmxml
    }
}

# shellcheck disable=SC2086
builds() {
    for optimise in $OPTIMISE; do
        for define in $DEFINE; do
            more=
            case $define in
            none) define= ;;
            *NO_MAIN | *LANGUAGE_ONLY) more=-Wno-unused-function ;;   # what only the rest calls
            esac
            try "$1 $optimise${define:+ }$define" \
                "$1" $STD $WARN -Werror $more $optimise $define $headers \
                -c -o "$work/x.o" xmppedge.c
        done
    done
    try "$1 links" "$1" $STD -O2 -o "$work/xmppedge" xmppedge.c $LIBS
    try "$1: the program starts" "$work/xmppedge" --version
    sed 's/^/# /' "$work/said"
}

# The headers of mbed TLS do not let tcc warn of what is deprecated.
small_compiler() {
    if ! command -v tcc >/dev/null 2>&1; then
        echo "ok - tcc, $where # SKIP not installed"
        return
    fi
    echo '#undef MBEDTLS_DEPRECATED_WARNING' >"$work/tcc.h"
    tcc="tcc -I$work -DMBEDTLS_USER_CONFIG_FILE=\"tcc.h\""
    # shellcheck disable=SC2086
    try "tcc links" $tcc $STD -o "$work/xmppedge" xmppedge.c $LIBS
    try "tcc: the program starts" "$work/xmppedge" --version
    for file in tests/unit/test_*.c tests/talk/talk.c; do
        try "$(basename "$file" .c) with tcc" env CC="$tcc" SANITIZE=-g sh tests/run.sh "$file"
    done
}

inside() {
    where=$1
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM HUP
    headers=$(mxml --cflags)
    LIBS="-pthread -lmbedtls -lmbedx509 -lmbedcrypto -lcares $headers $(mxml --libs)"
    export STD WARN LIBS
    found=
    for compiler in gcc clang; do
        if command -v $compiler >/dev/null 2>&1; then
            found=$compiler
            builds $compiler
            for file in tests/unit/test_*.c; do
                try "$(basename "$file" .c) with $compiler" env CC=$compiler sh tests/run.sh "$file"
            done
        else
            echo "ok - $compiler, $where # SKIP not installed"
        fi
    done
    : "${found:?no compiler}"
    small_compiler
}

# The same in a copy of what is needed, below the other root.
elsewhere() {
    root=$1
    if [ "$(id -u)" -ne 0 ]; then
        echo "ok - in $root # SKIP chroot needs root"
        return
    fi
    copy=$(mktemp -d "$root/tmp/xmppedge-matrix-XXXXXX")
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 1' INT TERM HUP
    mkdir "$copy/tests"
    cp xmppedge.c xmppedge.h "$copy/"
    cp -R tests/unit tests/cut.awk tests/run.sh tests/matrix.sh "$copy/tests/"
    release=$(sed -n 's/^VERSION_CODENAME=//p' "$root/etc/os-release")
    # shellcheck disable=SC2016  # for the inner shell
    chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin STD="$STD" WARN="$WARN" \
        sh -c 'cd "$1" && exec sh tests/matrix.sh inside "$2"' sh "${copy#"$root"}" \
        "${release:-elsewhere}" || echo "not ok - in $root"
}

# Numbers and the plan, line by line; the exit status says whether all is well.
number() {
    n=0
    bad=0
    while IFS= read -r line; do
        case $line in
        'ok - '*)     n=$((n + 1)); line="ok $n${line#ok}" ;;
        'not ok - '*) n=$((n + 1)); line="not ok $n${line#not ok}"; bad=1 ;;
        esac
        printf '%s\n' "$line"
    done
    echo "1..$n"
    [ $n -gt 0 ] && [ $bad -eq 0 ]
}

if [ "${1:-}" = inside ]; then
    inside "$2"
    exit
fi
cd "$(dirname "$0")/.."
{
    (inside here) || echo "not ok - here"
    [ -z "${TRIXIE:-}" ] || (elsewhere "${TRIXIE%/}") || echo "not ok - in $TRIXIE"
} | number
