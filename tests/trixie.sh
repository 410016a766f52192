#!/bin/sh
# trixie.sh [TARGET...] -- make demo check-quick, or other targets, in a Debian 13 beside this system.
#
# Its root folder is made once with debootstrap, from the mirror that apt uses here, in
# /var/cache/xmppedge (XMPPEDGE_CACHE names another place), and made again when it is not whole.  The
# tree is copied into it.  /proc, terminals and shared memory are mounted for the commands inside only: with
# the last of them the mounts are gone, however it ends, and nothing outside ever sees them.
#
# Needs root and about 2 GB.
set -eu
cd "$(dirname "$0")/.."

release=trixie
cache=${XMPPEDGE_CACHE:-/var/cache/xmppedge}
root=$cache/$release
[ "$(id -u)" -eq 0 ] || { echo "trixie.sh: only root can change the root folder" >&2; exit 1; }

# inside ROOT COMMAND...: it sees ROOT as its whole system.
inside() {
    # shellcheck disable=SC2016  # for the inner shell
    unshare --mount sh -eu -c '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
        mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
        exec chroot "$root" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            CI="${CI:-}" http_proxy="${http_proxy:-}" "$@"' sh "$@"
}

# The mirror of Debian among the sources of apt; nothing: debootstrap knows one.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
        'Label: Debian' 2>/dev/null | head -n 1
}

# With packages, under another name: what has the right name is whole.
make_root() {
    echo "making Debian $release in $root"
    command -v debootstrap >/dev/null || sh tests/deps.sh debootstrap
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    export http_proxy="${http_proxy:-}"
    rm -rf --one-file-system "$root" "$root.new"
    # shellcheck disable=SC2046
    unshare --mount debootstrap --variant=minbase $release "$root.new" $(mirror) >"$cache/log" ||
        { tail -n 20 "$cache/log"; return 1; }
    # it can be made again: no need to wait for the disk
    echo force-unsafe-io >"$root.new/etc/dpkg/dpkg.cfg.d/unsafe-io"
    cp tests/deps.sh "$root.new/root/"
    inside "$root.new" sh /root/deps.sh test >"$cache/log" 2>&1 ||
        { tail -n 20 "$cache/log"; return 1; }
    mv "$root.new" "$root"
}

is_whole() {
    [ -d "$root" ] && inside "$root" sh -c '. /etc/os-release && echo "$VERSION_CODENAME" &&
        apt-get check' 2>/dev/null | grep -qx $release
}

# The lock is kept to the end: while apt works inside, the folder does not look whole, and another run would
# remove it from under this one.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
is_whole || make_root

copy=$(mktemp -d "$root/tmp/xmppedge-XXXXXX")
trap 'rm -rf --one-file-system "$copy"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
tar -c --exclude=./.git --exclude=./build --exclude=./xmppedge --exclude=./xmppedge-analyze . |
    tar -x -C "$copy"
cp /etc/resolv.conf "$root/etc/resolv.conf"
[ $# -gt 0 ] || set -- demo check-quick
# shellcheck disable=SC2016
inside "$root" sh -eu -c 'cd "$1"; shift; sh tests/deps.sh test; exec make "$@"' sh "${copy#"$root"}" "$@" \
    9>&- </dev/null
