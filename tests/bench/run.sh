#!/bin/sh
# run.sh -- builds and runs the benchmark of the edge (make bench)
#
#   run.sh [EDGE] [options and names for bench_edge]
#
# EDGE is the program, ../../xmppedge if absent; BASE another one, whose relay is measured in the same run.
# BENCH_DIR keeps the folder with the configuration.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
edge=$here/../../xmppedge
case ${1-} in
    */*) edge=$(cd "$(dirname "$1")" && pwd)/$(basename "$1"); shift ;;
esac
dir=${BENCH_DIR-$(mktemp -d)}
[ -n "${BENCH_DIR-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"
: "${CC:=cc}" "${CFLAGS:=-O2}" "${LDLIBS:=-lmbedtls -lmbedx509 -lmbedcrypto}"
# shellcheck disable=SC3045
ulimit -n 4096 2>/dev/null || true

# shellcheck disable=SC2086
$CC -std=c99 $CFLAGS -Wall -Wextra -Wno-unused-function -o "$dir/bench_edge" "$here/bench_edge.c" \
    ${LDFLAGS-} $LDLIBS

authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" \
        -out "$1.pem" -days 30 -subj "/CN=$1" -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" \
        -out "$1.csr" -subj "/CN=$1" 2>/dev/null
    printf 'subjectAltName=DNS:%s\n' "$1" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 20 \
        -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
cd "$dir"
if [ ! -f edge.xml ]; then
    authority public
    authority internal
    certificate corp.example public
    certificate fab.example public
    certificate edge.corp.example internal
    certificate fe.corp.example internal
    echo 0123456789abcdef0123 >secret
    chmod 600 secret ./*.key
    cat >edge.xml <<END
<xmppedge role="edge" name="edge.corp.example">
  <external address="127.0.7.2" port="25269"/>
  <internal address="127.0.7.3" port="23456">
    <certificate chain="edge.corp.example.pem" key="edge.corp.example.key"/>
    <trust ca="internal.pem"/>
    <gateway name="fe.corp.example"/>
  </internal>
  <domain name="corp.example">
    <certificate chain="corp.example.pem" key="corp.example.key"/>
  </domain>
  <trust ca="public.pem"/>
  <dialback secret-file="secret"/>
  <partners>
    <partner domain="fab.example" sasl="optional" connection-limit="2000" proxy="127.0.7.1:25269"
             proxy-direct-tls="true"/>
  </partners>
  <limits connections="2000" source-connections="2000" source-rate="1000" source-burst="2000"/>
  <control socket="$dir/edge.sock"/>
  <log level="info" file="edge.log"/>
</xmppedge>
END
fi
# Other relays, with as many threads as the edge has for stanzas.
cat corp.example.pem corp.example.key >corp.example.both
cat >haproxy.cfg <<END
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen relay
    bind 127.0.7.4:25269 ssl crt $dir/corp.example.both
    server partner 127.0.7.1:25269 ssl verify none
END
cat >stunnel.conf <<END
foreground = yes
pid =
[in]
accept = 127.0.7.4:25269
connect = 127.0.7.4:25270
cert = $dir/corp.example.both
[out]
client = yes
accept = 127.0.7.4:25270
connect = 127.0.7.1:25269
END
# For the flood: each kind of key, with the threads of handshakes and without; a source may do what it likes.
if [ ! -f flood-p256-2.xml ]; then
    python3 "$here/bomb.py" bomb.pem
    server_key() {
        openssl req -newkey "$2" ${3:+-pkeyopt "$3"} -nodes -keyout "$1.key" -out "$1.csr" -subj /CN=corp.example 2>/dev/null
        openssl x509 -req -in "$1.csr" -CA public.pem -CAkey public.key -CAcreateserial -days 20 \
            -extfile corp.example.ext -out "$1.pem" 2>/dev/null
    }
    server_key p256 ec ec_paramgen_curve:prime256v1
    server_key rsa2048 rsa:2048
    server_key rsa4096 rsa:4096
    chmod 600 ./*.key
    for key in p256 rsa2048 rsa4096; do
        for threads in 2 0; do
            sed "s/\"corp\.example\.pem\"/\"$key.pem\"/; s/\"corp\.example\.key\"/\"$key.key\"/
                s/source-rate=\"1000\" source-burst=\"2000\"/source-rate=\"100000\" source-burst=\"100000\" \\
                handshake-threads=\"$threads\"/" edge.xml >flood-$key-$threads.xml
        done
    done
fi
if [ -n "${BASE-}" ]; then
    echo "$BASE:"
    "$dir/bench_edge" "$BASE" "$dir" "$@" in out calls
    echo "$edge:"
fi
"$dir/bench_edge" "$edge" "$dir" "$@"
