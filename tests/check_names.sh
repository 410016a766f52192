#!/bin/sh
# check_names.sh -- what the object file shows to a program it is linked with: the functions that
# xmppedge.h declares, with their prefix, and no data at all.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${INCLUDES:=}"

. tests/verdict.sh
# shellcheck disable=SC2086
compile() { $CC $STD -w -O0 -I. $INCLUDES "$@" -c xmppedge.c; }

# names KIND FILE: what an object defines for others, of the kinds of nm
names() { nm -g "$2" | awk -v kind="$1" '$2 ~ kind { print $3 }' | sort; }

echo 1..6
compile -o "$work/whole.o"
compile -DXMPPEDGE_NO_MAIN -o "$work/embedded.o"
compile -DXMPPEDGE_LANGUAGE_ONLY -o "$work/language.o"

# Every function that the header declares, a name and a parenthesis.
declared() {
    $CC $STD -E -P "$@" xmppedge.h | tr '\n' ' ' | tr ';' '\n' | grep -o 'xe_[a-z0-9_]* *(' |
        tr -d ' (' | sort -u
}
declared >"$work/declared"
declared -DXMPPEDGE_LANGUAGE_ONLY >"$work/declared.language"

verdict 'the program exports main and what the header declares' \
    "$(names '[TDBRC]' "$work/whole.o" | grep -vx main | comm -3 - "$work/declared")"
verdict 'without main it exports what the header declares' \
    "$(names '[TDBRC]' "$work/embedded.o" | comm -3 - "$work/declared")"
verdict 'the language half exports its part of the header' \
    "$(names '[TDBRC]' "$work/language.o" | comm -3 - "$work/declared.language")"
verdict 'all exported names start with xe_' \
    "$(names '[TDBRC]' "$work/embedded.o" | grep -v '^xe_' || true)"
verdict 'no data is exported' "$(names '[DBRC]' "$work/whole.o")"
# RFC 6120 needs no sockets, and neither does its half.
verdict 'the language half calls nothing of sockets, files, clocks, mbed TLS or c-ares' \
    "$(nm -u "$work/language.o" | awk '{ print $2 }' | sed 's/@.*//' |
       grep -E '^(mbedtls_|psa_|ares_|socket|connect|bind|listen|accept|send|recv|read|write|open|poll|epoll|clock_|time$|gettimeofday|getenv)' || true)"
