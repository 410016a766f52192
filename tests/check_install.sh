#!/bin/sh
# check_install.sh -- make install puts what it should where it should, and takes it away again.  TAP.
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL 2>/dev/null || :

. tests/verdict.sh
root=$work/root
unit=$root/usr/lib/systemd/system/xmppedge@.service

in_root() { ${MAKE:-make} -s "$1" DESTDIR="$root" PREFIX=/usr 2>&1 || echo "exit code $?"; }
lines_missing() { for line in "$@"; do grep -qx "$line" "$unit" || echo "no $line"; done; }

echo 1..8
verdict 'make install says nothing' "$(in_root install)"
verdict 'it installs exactly what it should, all below DESTDIR' "$(
    (cd "$root" && find . -type f | sort) | diff - /dev/fd/3 3<<END
./usr/bin/xmppedge
./usr/bin/xmppedge-analyze
./usr/lib/systemd/system/xmppedge@.service
./usr/share/bash-completion/completions/xmppedge
./usr/share/bash-completion/completions/xmppedge-analyze
./usr/share/doc/xmppedge/LICENSE
./usr/share/doc/xmppedge/README.md
./usr/share/doc/xmppedge/examples/edge.xml
./usr/share/doc/xmppedge/examples/gateway.xml
./usr/share/man/man1/xmppedge-analyze.1
./usr/share/man/man1/xmppedge.1
./usr/share/man/man5/xmppedge.xml.5
END
)"
verdict 'the programs run' "$("$root/usr/bin/xmppedge" --version | grep -v '^xmppedge '
    "$root/usr/bin/xmppedge-analyze" --version | grep -v '^xmppedge-analyze ')"
verdict 'the examples are those of the program' "$(
    for role in edge gateway; do
        "$root/usr/bin/xmppedge" config $role |
            cmp - "$root/usr/share/doc/xmppedge/examples/$role.xml" 2>&1
    done)"
verdict 'the unit runs it unprivileged' "$(lines_missing \
    'ExecStart=/usr/bin/xmppedge run /etc/xmppedge/%i.xml' 'ExecReload=/bin/kill -HUP $MAINPID' \
    'User=xmppedge' 'DynamicUser=yes' 'NoNewPrivileges=yes' 'CapabilityBoundingSet=' \
    'ProtectSystem=strict' 'RuntimeDirectory=xmppedge' 'Restart=on-failure' \
    'RestartPreventExitStatus=2' 'Type=notify' 'WatchdogSec=60' 'LogsDirectory=xmppedge')"
if command -v systemd-analyze >/dev/null 2>&1; then
    # Where the program really is, and a service manager that has no other units to complain about.
    sed "s|/usr/bin/xmppedge|$root/usr/bin/xmppedge|; /^Documentation/d" "$unit" \
        >"$work/xmppedge@edge.service"
    verdict 'systemd finds nothing wrong with it' "$(
        systemd-analyze verify "$work/xmppedge@edge.service" 2>&1 | grep xmppedge || true)"
    # Of 10, which is a service without any of it: it needs the network, and AF_NETLINK for its addresses.
    verdict 'nor that it is exposed' "$(
        systemd-analyze security --offline=true --threshold=20 "$work/xmppedge@edge.service" 2>&1 | tail -1 |
            grep -v ' OK ')"
else
    verdict 'systemd finds nothing wrong with it # SKIP no systemd-analyze' ''
    verdict 'nor that it is exposed # SKIP no systemd-analyze' ''
fi
verdict 'make uninstall takes all of it away' "$(in_root uninstall; find "$root" -type f)"
