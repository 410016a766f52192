#!/bin/sh
# faults.t -- captures that are easily read wrongly, and what is true of them
#
#   truth STATUS 'OPTIONS FILES' 'what it says' ... '! what it must not say' ...
#
# looks into the text report, every line break and run of blanks in it one blank.
cd "$(dirname "$0")/../.." || exit 99
captures=../shared/captures/faults
if [ ! -d "$captures" ]; then
    echo "1..0 # SKIP there is no $captures"
    exit 0
fi
program=$PWD/${XMPPEDGE_ANALYZE:-xmppedge-analyze}
case ${XMPPEDGE_ANALYZE:-} in /*) program=$XMPPEDGE_ANALYZE ;; esac
cd "$captures" || exit 99
n=0

truth() {
    expected=$1 what=$2 wrong=
    shift 2
    # shellcheck disable=SC2086  # options and files are words
    said=$("$program" $what 2>&1)
    status=$?
    said=$(echo "$said" | tr -s ' \n' ' ')
    [ $status -eq "$expected" ] || wrong="exit status $status, not $expected"
    for words in "$@"; do
        case $words in
        '! '*) case $said in *"${words#! }"*) wrong="$wrong; it says: ${words#! }" ;; esac ;;
        *)     case $said in *"$words"*) ;; *) wrong="$wrong; it does not say: $words" ;; esac ;;
        esac
    done
    n=$((n + 1))
    if [ -z "$wrong" ]; then
        echo "ok $n - $what"
    else
        echo "not ok $n - $what"
        echo "# ${wrong#; }"
        echo "$said" | fold -s -w 110 | sed 's/^/#   /'
    fi
}

truth 1 '-c edge.xml edge-dials-the-lan.pcap' \
    'The edge called the inside' '203.0.113.10 -> 10.1.0.21:5222' 'DNS of evil.example led there'
truth 1 'alert-then-reset.pcap' \
    'cert-purpose, row 2' 'p20.example: TLS alert unsupported_certificate' '! peer-lost'
truth 1 'geneve.pcap' '72 packets, 4 TCP connections' '2 of 4 failed' '! unread'
truth 1 'repeated-fin.pcap' '23 packets, 1 TCP connection, 1 of them federation' '! midstream'
truth 1 'stream-error-without-header.pcap' \
    'p4.example: invalid-namespace' 'packet 6 (stream error)' '! not-xmpp' '! is no XMPP stream'
truth 1 'proxy-protocol-v1.pcap' \
    'Row 1 (in) works' 'through the load balancer 192.0.2.14' '198.51.100.7:33000 called 192.0.2.12:5269' '! not-xmpp'
for files in 'partner-works.pcap partner-loses-its-dns.pcap' 'partner-loses-its-dns.pcap partner-works.pcap'; do
    truth 1 "-c edge.xml $files" 'Row 2 (out) works' '1 look-up of a partner failed' \
        'dns-not-found, name service (out): 2026-11-26 12:22:10.614 UTC' '! (not named)'
done
truth 1 'srv-target-is-an-address.pcap' 'srv-address' 'SRV record is an IP address' 'RFC 2782' \
    '! does not exist' '! Publish an SRV record'
truth 1 '--external 192.0.2.14 two-silent-partners.pcap' \
    'tell the partner at 203.0.113.7 ' 'tell the partner at 203.0.113.99 ' 'edge - 203.0.113.7 ' 'edge - 203.0.113.99 ' \
    '! 2 times'
truth 0 '-k row3-inner-server-dials.keys row3-inner-server-dials.pcap' \
    'corp.example - pa.example in 3' 'corp.example - pb.example in 3'
truth 0 'row3-inner-server-dials.pcap' '192.0.2.31 - pa.example in 3' '! pa.example - '
truth 1 'middlebox-rst.pcap' 'middlebox-reset, row 2' 'its TTL is 251, and that of all else is 64 and 60' \
    '! the alert says why' '! tls-failed' '! cut on your side'
truth 1 '-c edge.xml expired-tls13-no-keys.pcap' 'corp.example ended it first' \
    'the reason stands in the log of our server' '! tell fabrikam.example'
truth 0 '-c edge.xml healthy-edge-midstream.pcap' \
    'Row 1 (in) works, 1 in use since before the capture began. Row 2 (out) works, 1 in use since before the capture' \
    'row 3 conforms, in use since before the capture began (inferred); mutual TLS inferred' \
    'corp.example - 203.0.113.1 ' 'fe01.corp.example - edge01.corp.example in 3' \
    'All connections are older than the capture' "! 'syn'" '! (not named)' '! cannot tell' '! unclear'

# Both sides of a translation of addresses: each connection once, and the edge is who is translated.
for files in 'nat-inside.pcap nat-outside.pcap' 'nat-outside.pcap nat-inside.pcap'; do
    truth 0 "--all $files" '148 packets, 2 TCP connections, 2 of them federation' \
        'external 192.0.2.14, 203.0.113.5 (inferred)' 'is seen on both sides of a translation' \
        'Row 1 (in) works, 1 tried. Row 2 (out) works, 1 tried.' 'p13.example - pb.example' \
        'seen again as 203.0.113.5:20302 -> 192.0.2.12:5269, packet 12 on (the same randoms of TLS)'
done
truth 0 '--all -k nat-inside.keys nat-outside.pcap nat-inside.pcap' 'external 192.0.2.14, 203.0.113.5 (inferred)' \
    '2 TCP connections' 'out 1 1 0 0 stanzas EXTERNAL 1.3 2' 'in 1 1 0 0 stanzas EXTERNAL 1.3 2'
truth 0 '--all --external 203.0.113.5 nat-inside.pcap nat-outside.pcap' 'row 1 conforms; first packet 60' \
    '(203.0.113.5:20302) -> pb.example' 'seen again as 192.0.2.14:59278 -> 192.0.2.12:5269'

# The log of our own edge names what TLS 1.3 hides; what it only noticed, the capture knows better.
truth 1 '-c edge.xml --log expired-tls13-no-keys.edge.log expired-tls13-no-keys.pcap' \
    'cert-expired (from the log), row 1 (in)' 'cert-expired (from the log), row 2 (out)' \
    's2s-in-closed state=accepted why=cert-expired' 'fabrikam.example has to act: renew' \
    '2 joined by addresses, ports and time, the reason of 2 attempts' '! refused-inside-tls'
# Without it: who ended it, after what, and that it was we, so that no partner is asked.
truth 1 '-c edge.xml expired-tls13-no-keys.pcap' 'corp.example ended it first, after the stream headers' \
    'our side ended it first: the reason stands in the log of our server' '! what does your log say' '! tell fabrikam'
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
echo '2026-11-26T13:02:59.400Z warn  s2s-out-closed dir=out local=corp.example remote=p20.example' \
    'peer=127.86.20.1:5269 via=127.86.0.10:51561 state=tls hop=partner why=peer-lost' >"$logs/lost"
echo '2026-11-26T12:40:17.940Z info  pair-joined from=fabrikam.example to=corp.example' \
    's2s_local=203.0.113.10:5269 s2s_peer=203.0.113.1:50522 trunk_local=10.0.0.5:23456' \
    "trunk_peer=10.1.0.20:36658 trunk=fe01.corp.example" >"$logs/pair"
truth 1 "--all -c edge.xml --log $logs/pair expired-tls13-no-keys.pcap" \
    'its stanzas go by the trunk 10.0.0.5:23456 - 10.1.0.20:36658, connection #1 (from the log)'
truth 1 "--log $logs/lost alert-then-reset.pcap" \
    'cert-purpose, row 2' 's2s-out-closed state=tls hop=partner why=peer-lost' \
    'but the capture knows more than the log' 'it shows: TLS alert unsupported_certificate'
# Our own administrator has ended what worked: that is no failure.
echo "2026-11-26T12:20:38.220Z info  s2s-in-closed dir=in local=corp.example remote=fabrikam.example" \
    'peer=203.0.113.1:36932 via=203.0.113.10:5269 state=open hop=partner why=blocked' >"$logs/blocked"
truth 0 "--all -c edge.xml --log $logs/blocked partner-works.pcap" 'Row 1 (in) works, 1 tried' 'WORKED, BUT 1 blocked' \
    'and was ended: an administrator has blocked the domain' 'row 1: worked until blocked' '! encryption is required' '! tell fabrikam'
head -c 100000 /dev/urandom >"$logs/rubbish"
truth 1 "--log $logs/rubbish alert-then-reset.pcap" '0 lines of xmppedge: this is no log of it'

echo "1..$n"
