#!/bin/sh
# real.sh -- the analyzer over captures between real servers, with and without their keys
#
# usage: real.sh [PROGRAM [FOLDER]]
# PROGRAM defaults to xmppedge-analyze in the folder above, FOLDER to ../shared/captures/real beside the project.
# Each line of the table: capture, k (with keys) or - (without), exit status, rulings of rows 1 2 3 and other
# (c conforms, v violates, ? cannot tell), then outcome:cause of each attempt in order of time.  Outcomes: w worked,
# f failed, u unknown; a setback stands after a plus sign.  Read from the decrypted transcripts beside the captures.
here=$(dirname "$0")
program=${1:-$here/../xmppedge-analyze}
folder=${2:-$here/../../../shared/captures/real}
if [ ! -d "$folder" ]; then
    echo "real.sh: skipped, there is no $folder"
    exit 0
fi
bad=0
count=0

# One word for each attempt, from the JSON Lines of the report.
attempts() {
    sed -n 's/^{"type":"verdict","about":"attempt",.*"outcome":"\([a-z-]*\)",.*"cause":"\([a-z0-9-]*\)","cause_inferred":[a-z]*,"setback":"\([a-z0-9-]*\)".*/\1:\2+\3/p' "$1" |
        sed 's/^worked/w/; s/^failed/f/; s/^cannot-tell/u/; s/+$//; s/:+/+/; s/:$//' | tr '\n' ' '
}

rulings() {
    for row in 5269-in 5269-out 23456-in other; do
        sed -n 's/^{"type":"verdict","about":"row","row":"'$row'",.*"ruling":"\([a-z-]*\)".*/\1/p' "$1"
    done | sed 's/conforms/c/; s/violates/v/; s/cannot-tell/?/' | tr -d '\n'
}

check() {
    name=$1; keys=$2; want_status=$3; want_rows=$4; shift 4
    file=$(ls "$folder/$name"-*.pcap 2>/dev/null | head -1)
    if [ -z "$file" ]; then echo "real.sh: $name is not there"; return; fi
    out=$(mktemp)
    set -- "$*"
    if [ "$keys" = k ]; then "$program" --json -k "${file%.pcap}.keys" "$file" >"$out" 2>&1
    else "$program" --json "$file" >"$out" 2>&1; fi
    status=$?
    got="$status $(rulings "$out") $(attempts "$out")"
    want="$want_status $want_rows $1 "
    count=$((count + 1))
    if [ "$got" != "$want" ]; then
        bad=$((bad + 1))
        echo "FAIL $name $keys"
        echo "  want $want"
        echo "  got  $got"
    fi
    rm -f "$out"
}

while read -r line; do
    case $line in '#'* | '') continue ;; esac
    check $line
done <<'TABLE'
# the good ones
A01   - 0 cc?c w w
A01   k 0 cc?c w w
A01b  - 0 cc?c w w
A01b  k 0 cc?c w w
A01c  - 0 cc?c w w
A01c  k 0 cc?c w w
A02a  - 0 cc?c w w
A02a  k 0 cc?c w w
A02b  - 0 cc?c w w w
A02b  k 0 cc?c w+cert-untrusted w w
A03a  - 1 vv?c w w
A03b  - 1 vv?c w w w
A04a  - 1 ???v w w
A04a  k 1 ???v w w
A04c  - 1 ?c?v w w
A04c  k 1 ?c?v w w
A07a  - 0 cc?c w w
A07a  k 0 cc?c w w
A07c  - 0 cc?c w w
A07c  k 0 cc?c w w
B01   - 0 ??cc w w
B01   k 0 ??cc w w
C11   - 1 vv?c w w w w
C12   - 0 cc?c w w w w
C12   k 0 cc?c w w w w
C31   - 1 vv?c w w w w w w
C51   - 1 vv?c w w w w
# probes: bad stanzas on streams that work
D1    - 1 vv?c w f:xml-malformed w w w w w w w f:xml-malformed w f:xml-malformed w w w f:not-authorized w f:bad-element w w+dialback-invalid w w w w w f:stanza-too-big w w w f:bad-element w f:host-unknown w f:bad-element w f:not-authorized w f:xml-malformed w w w w
D3    - 1 vv?c w f:xml-malformed w w w w w w w w+xml-restricted w w+xml-restricted w w w w f:invalid-from w w+dialback-error w w+dialback-invalid w w w w w w w w w w w f:host-unknown w w w f:bad-address w f:xml-malformed w w w w
# the failures
A01x  - 1 c??c f:refused-inside-tls f:refused-inside-tls w
A01x  k 1 c??c f:crash-in-negotiation f:crash-in-negotiation w
A05a  - 1 ???c f:host-unknown f:host-unknown
A05a2 - 1 ???c f:host-unknown f:host-unknown
A05b  - 1 ???c f:refused-inside-tls f:refused-inside-tls
A05b  k 1 ???c f:cert-expired f:cert-expired
A05b3 - 1 ???c f:refused-inside-tls f:refused-inside-tls
A05b3 k 1 ???c f:cert-expired f:cert-expired
A05c  - 1 ???c f:refused-inside-tls f:refused-inside-tls
A05c  k 1 ???c f:cert-name f:cert-name
A05c4 - 0 cc?c w w w
A05c4 k 0 cc?c w w+cert-purpose w
A05d  - 1 ???c f:tcp-refused f:tcp-refused
A05e  - 1 ???c f:tcp-timeout
A05f  - 1 ???c f:tls-not-offered f:tls-not-offered f:tls-required f:tls-not-offered
A05f2 - 1 ???c f:tls-required f:tls-not-offered f:tls-not-offered
A05g  - 1 ???c f:refused-inside-tls
A05g  k 1 ???c f:dialback-invalid
A05h  - 1 ???c f:dns-not-found
A06a  - 1 ???c f:silent-peer
B12   - 1 ???c f:cert-invalid f:cert-invalid f:cert-invalid
B12   k 1 ???c f:cert-untrusted f:cert-untrusted f:cert-untrusted
TABLE
echo "real.sh: $count runs, $bad wrong"
[ "$bad" -eq 0 ]
