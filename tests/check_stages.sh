#!/bin/sh
# check_stages.sh -- the stages of the analyzer keep their order, and each way to break it is found.  TAP.
set -eu
. tests/verdict.sh

stages() { awk -f tests/check_stages.awk xmppedge.h "$@"; }

# broken WORDS FILE SCRIPT: a copy of the tree with a file changed by sed; just this is said, once.
broken() {
    rm -f "$work"/*.[ch]
    cp analyze/*.[ch] "$work"
    sed "$3" "analyze/$2" >"$work/$2"
    said=$(stages "$work"/*.[ch]) || true
    case $said in
    *"
"*)     said="more is said: $said" ;;
    *"$1"*) said= ;;
    *)      said="not found, but: $said" ;;
    esac
    verdict "found: $1" "$said"
}

echo 1..12
verdict 'the stages keep their promises' "$(stages analyze/*.[ch])"
broken 'report.h is not of a stage before flow' flow.c 's/^#include "pool.h"/#include "report.h"/'
broken '"flow.c" is no header of a stage' tls.c 's/^#include "pool.h"/#include "flow.c"/'
broken 'the first header is not packet.h' packet.c 's/^#include "packet.h"/#include "capture.h"/'
broken 'flow names struct attempt of xmpp' flow.c 's/^struct segment {/struct attempt;\n&/'
broken 'dns names report_json of report' dns.c 's/dns_letter(unsigned c)/&\n{ report_json(NULL, NULL); }/'
broken 'packet_drop() is declared and not defined' packet.h 's/^void packet_end/void packet_drop(void);\n&/'
broken 'the roof calls nothing of dns' analyze.c 's/dns_\([a-z]*\)(/none_\1(/g'
broken 'flow_judge is mentioned' flow.c '2s/$/ as flow_judge tells/'
broken 'flow_bend is mentioned' flow.c 's,^/\* One direction of a connection,& (flow_bend()),'
broken 'only capture may know this library' dns.c 's/^#include "dns.h"/&\n#include <pcap\/pcap.h>/'
broken 'dns_push() has' dns.c "/^dns_push(/,/^}/s/^}/$(printf '%0100d' 0 | sed 's/0/\\n/g')}/"
