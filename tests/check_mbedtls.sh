#!/bin/sh
# check_mbedtls.sh -- a mbed TLS that lacks what is needed is refused by a sentence that names it.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${INCLUDES:=}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# The library's own checks are left out: they speak of what else would be missing.
# shellcheck disable=SC2086
preprocess() {
    $CC $STD $INCLUDES -I"$work" -DMBEDTLS_CHECK_CONFIG_H "$@" -E -o "$work/out" xmppedge.c 2>"$work/said"
}

# says NAME TEXT: the compiler has stopped with it.
says() {
    if grep -q "#error.*$2" "$work/said"; then
        echo "ok $n - $1"
    else
        echo "not ok $n - $1"
        sed 's/^/# /' "$work/said" | head -n 5
    fi
}

needed=$(sed -n 's/^#ifndef \(MBEDTLS_[A-Z0-9_]*\)$/\1/p' xmppedge.c)
# shellcheck disable=SC2086
set -- $needed
echo "1..$(($# + 3))"
n=1
if preprocess; then echo "ok $n - the library that is here has all"; else says "the library that is here has all" nothing; fi
for option in $needed; do
    n=$((n + 1))
    echo "#undef $option" >"$work/without.h"
    if preprocess -DMBEDTLS_USER_CONFIG_FILE='"without.h"'; then : >"$work/said"; fi
    says "without $option" "lacks $option: "
done
n=$((n + 1))
echo '#define MBEDTLS_SSL_IN_CONTENT_LEN 8192' >"$work/without.h"
if preprocess -DMBEDTLS_USER_CONFIG_FILE='"without.h"'; then : >"$work/said"; fi
says "records that are too small" "MBEDTLS_SSL_IN_CONTENT_LEN below 16384"
n=$((n + 1))
mkdir "$work/mbedtls"
echo '#define MBEDTLS_VERSION_NUMBER 0x04000000' >"$work/mbedtls/version.h"
if preprocess; then : >"$work/said"; fi
says "a version that is not known" "mbed TLS 4 is not supported yet"
