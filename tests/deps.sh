#!/bin/sh
# deps.sh [build|test|debootstrap] -- what building and testing need, installed where it is missing.
#
#   build         a compiler and the libraries
#   test          that, and the real servers and tools of the tests (the default)
#   debootstrap   what makes another Debian beside this one
#
# Quiet and quick when everything is there.  Debian's server packages start their service when they
# are installed; here policy-rc.d forbids that for the time of the installation, and services that
# run already are left alone.  Without apt it says what is missing and exits with 1.

set -eu

build='gcc make libc6-dev pkg-config libmbedtls-dev libmxml-dev libc-ares-dev libpcap-dev
       libidn2-dev'
test="$build g++ clang libclang-rt-dev libcmocka-dev libexpat1-dev perl python3 openssl dnsmasq-base
      prosody lua-unbound ejabberd jabberd2 python3-slixmpp iproute2 nftables iptables haproxy mandoc"

case ${1:-test} in
build) wanted=$build ;;
test)  wanted=$test ;;
debootstrap) wanted=debootstrap ;;
*)     echo "usage: $0 [build|test|debootstrap]" >&2; exit 2 ;;
esac

missing_debian() {
    for package in $wanted; do
        # a virtual or renamed package counts when something provides it
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf ' %s' "$package"
    done
}

# Elsewhere names of packages mean nothing; look for what they bring.
missing_elsewhere() {
    for program in cc make pkg-config; do
        command -v $program >/dev/null 2>&1 || printf ' %s' "$program"
    done
    for header in mbedtls/ssl.h mxml.h ares.h pcap/pcap.h; do
        echo "#include <$header>" | ${CC:-cc} -E - >/dev/null 2>&1 || printf ' %s' "$header"
    done
    [ "${1:-test}" = build ] && return
    for header in cmocka.h expat.h; do
        printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <%s>\n' "$header" |
            ${CC:-cc} -E - >/dev/null 2>&1 || printf ' %s' "$header"
    done
    for program in clang perl prove python3 openssl dnsmasq prosody erl jabberd2-s2s; do
        PATH=$PATH:/usr/sbin:/sbin command -v $program >/dev/null 2>&1 || printf ' %s' "$program"
    done
}

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    missing=$(missing_elsewhere "${1:-test}")
    [ -z "$missing" ] && exit 0
    echo "missing:$missing" >&2
    exit 1
fi

missing=$(missing_debian)
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "missing:$missing" >&2
    echo "install them as root:  apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
kept=$policy.kept-by-xmppedge-deps
changed=

restore_policy() {
    [ -n "$changed" ] || return 0
    changed=
    $as_root rm -f $policy
    [ ! -e $kept ] || $as_root mv $kept $policy
}
trap restore_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# 101: action forbidden by policy.  Maintainer scripts may not start, stop or restart anything.
[ ! -e $policy ] || $as_root mv $policy $kept
changed=yes
printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
$as_root chmod 755 $policy

install_missing() {
    # shellcheck disable=SC2086  # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y --no-install-recommends install $missing >&2
}
if ! install_missing; then
    $as_root apt-get -qq update
    # A distribution may lack one of the servers, or libFuzzer as a package of its own; the tests
    # that need it are then skipped.
    for package in libclang-rt-dev prosody lua-unbound ejabberd jabberd2 python3-slixmpp; do
        case " $missing " in
        *" $package "*)
            apt-cache show "$package" >/dev/null 2>&1 && continue
            echo "not available here: $package" >&2
            missing=$(echo "$missing " | sed "s/ $package / /") ;;
        esac
    done
    case $missing in *[a-z]*) install_missing ;; esac
fi

# Debian enables the services it installs for the next boot; those that came with us shall not run.
if command -v systemctl >/dev/null 2>&1; then
    for service in prosody ejabberd jabberd2 jabberd; do
        case " $missing " in
        *" $service "*) $as_root systemctl disable "$service" >/dev/null 2>&1 || : ;;
        esac
    done
fi
