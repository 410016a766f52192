#!/bin/sh
# demo.sh [--keep] -- what `make demo` shows: a partner, an edge and a gateway on this machine, talking, and
# then the analyzer over what they said on the wire.
#
#   partner                    our edge                                 our gateway
#   fabrikam.example           edge01.corp.example                      fe01.corp.example
#   echo domain --- row 1 ---> external:5269
#         :5269 <--- row 2 --- external   internal:23456 <--- row 3 --- echo domain corp.example
#
# Everything is done with commands of xmppedge that anybody can give.  There is no DNS: each partner entry
# has a static route.  Nothing is taken for granted: what is printed is what the three answered, and a
# connection counts only when both of its ends report the same two addresses.
#
# With --keep the three go on until Ctrl-C, and the folder with their files stays.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
xmppedge=${XMPPEDGE:-$top/xmppedge}
analyze=${XMPPEDGE_ANALYZE:-$top/xmppedge-analyze}

keep=
case ${1:-} in
'')     ;;
--keep) keep=yes ;;
*)      echo "demo.sh: unknown option $1" >&2
        echo 'usage: demo.sh [--keep]' >&2
        exit 2 ;;
esac

umask 077
tmp=${TMPDIR:-/tmp}
[ ${#tmp} -le 60 ] || tmp=/tmp    # a path to a socket has no more than about 100 characters
work=$(mktemp -d "$tmp/xmppedge-demo.XXXXXX") || exit 1
cd "$work" || exit 1
began=$(date +%s)
stay=$keep        # does the folder stay?
nodes=            # those that were started
analyzer=         # its process

# ---- processes, and their end ----

pid_of() { eval "echo \$pid_$1"; }
alive() { kill -0 "$(pid_of "$1")" 2>/dev/null; }
ready() { "$xmppedge" status "$1.xml" --json >"$1.status" 2>/dev/null; }

# start NODE: until it answers; false if it has ended instead
start() {
    "$xmppedge" run "$1.xml" >"$1.log" 2>&1 9>&- &
    eval "pid_$1=$!"
    echo $! >>pids
    nodes="$nodes $1"
    await "$1" ready "$1"
}

# await NODE COMMAND...: until the command succeeds; false if the node has ended before
await() {
    node=$1
    shift
    tries=0
    until "$@"; do
        alive "$node" || return
        [ $((tries += 1)) -le 100 ] || fail "the $node does not get ready"
        sleep 0.05
    done
}

# tell NODE...: to end
tell() {
    for node; do
        kill "$(pid_of "$node")" 2>/dev/null
    done
}

# end NODE: it does, after it was told; its exit code
end() {
    tries=0
    while alive "$1"; do
        [ $((tries += 1)) -le 160 ] || kill -KILL "$(pid_of "$1")"
        sleep 0.05
    done
    wait "$(pid_of "$1")"
}

# All nodes end, in order, or it is a failure.
end_all() {
    tell $nodes
    for node in $nodes; do
        end "$node"
        code=$?
        nodes=${nodes#* "$node"}
        [ $code -le 128 ] || fail "the $node has ended with signal $((code - 128))"
        [ $code -eq 0 ] || fail "the $node has ended with exit code $code"
    done
}

fail() {
    {
        printf '\nThe demo has failed: %s\n' "$1"
        for log in *.log; do
            [ ! -f "$log" ] || { echo "--- the end of $log" && tail -n 20 "$log"; }
        done
        echo "--- configurations and logs are left in $work"
    } >&2
    stay=yes
    exit 1
}

clean() {
    trap '' HUP INT TERM PIPE
    tell $nodes
    for node in $nodes; do
        end "$node"
    done
    [ -z "$analyzer" ] || kill "$analyzer" 2>/dev/null
    echo over >&9
    exec 9>&-
    # what had just begun when a signal came has no name yet
    jobs -p >begun
    # shellcheck disable=SC2046  # a list of numbers
    kill $(cat begun) 2>/dev/null
    wait
    [ -n "$stay" ] || rm -rf "$work"
}

interrupted() {
    printf '\nThe demo was interrupted.\n' >&2
    stay=
    exit 1
}

# No process outlives the demo, however this one ends: the guard reads from a pipe that only we write to.
mkfifo lifeline && : >pids || exit 1
(
    trap '' HUP INT TERM
    read -r word <lifeline
    # shellcheck disable=SC2046  # a list of numbers
    [ "$word" = over ] || kill $(cat pids)
) 2>/dev/null &
exec 9>lifeline
trap clean EXIT
trap interrupted HUP INT TERM

# ---- addresses and configurations ----

# choose PLAN NUMBER: four addresses, of which nobody knows yet whether they are free
choose() {
    net=127.$((64 + $2 / 250 % 128)).$((1 + $2 % 250))
    port=$((10000 + $2 % 5000 * 4))
    case $1 in
    standard)    partner=$net.1:5269 external=$net.2:5269 internal=$net.3:23456 inner=$net.4:5269 ;;
    other-ports) partner=$net.1:$port external=$net.2:$port internal=$net.3:$((port + 1))
                 inner=$net.4:$port ;;
    one-address) partner=127.0.0.1:$port external=127.0.0.1:$((port + 1))
                 internal=127.0.0.1:$((port + 2)) inner=127.0.0.1:$((port + 3)) ;;
    esac
}

# at ADDRESS:PORT: as attributes
at() { echo "address=\"${1%:*}\" port=\"${1##*:}\""; }

# The only partner.
partners() {
    echo '<partners>'
    echo "    <partner domain=\"$1\" tls=\"required\" sasl=\"required\" dialback=\"false\" proxy=\"$2\"/>"
    echo '  </partners>'
}

configure() {
    cat >partner.xml <<END
<!-- Somebody else's server.  It is a node of the role edge without an inside: it answers for its domain
     itself, with echoes. -->
<xmppedge role="edge" name="xmpp.fabrikam.example">
  <external $(at "$partner")/>
  <echo domain="fabrikam.example">
    <certificate chain="public/fabrikam.example.pem" key="public/fabrikam.example.key"/>
  </echo>
  <trust ca="public/internal-ca.pem"/>
  <dialback secret-file="public/dialback.secret"/>
  $(partners corp.example "$external")
  <control socket="partner.sock"/>
</xmppedge>
END
    cat >edge.xml <<END
<!-- Our edge: rows 1 and 2 of the port table at the external address, row 3 at the internal one. -->
<xmppedge role="edge" name="edge01.corp.example">
  <external $(at "$external")/>
  <internal $(at "$internal")>
    <certificate chain="trunk/edge01.corp.example.pem" key="trunk/edge01.corp.example.key"/>
    <trust ca="trunk/internal-ca.pem"/>
    <gateway name="fe01.corp.example"/>
  </internal>
  <domain name="corp.example">
    <certificate chain="public/corp.example.pem" key="public/corp.example.key"/>
  </domain>
  <trust ca="public/internal-ca.pem"/>
  <dialback secret-file="trunk/dialback.secret"/>
  $(partners fabrikam.example "$partner")
  <control socket="edge.sock"/>
</xmppedge>
END
    cat >gateway.xml <<END
<!-- Our gateway.  An echo domain takes the place of the inner server. -->
<xmppedge role="gateway" name="fe01.corp.example">
  <edge name="edge01.corp.example" $(at "$internal")/>
  <certificate chain="trunk/fe01.corp.example.pem" key="trunk/fe01.corp.example.key"/>
  <trust ca="trunk/internal-ca.pem"/>
  <listen $(at "$inner")/>
  <echo domain="corp.example"/>
  <control socket="gateway.sock"/>
</xmppedge>
END
}

# Whether an address is free is known when somebody listens on it.
start_outside() {
    number=$$
    for plan in standard standard standard standard other-ports other-ports other-ports other-ports \
        one-address one-address one-address one-address; do
        choose $plan $number
        configure
        start partner && start edge && return
        grep -q 'cannot listen on' partner.log edge.log || fail 'a process has ended by itself'
        tell $nodes
        for node in $nodes; do
            end "$node"
        done
        nodes=
        number=$((number + 7919))
    done
    fail 'no loopback address to listen on'
}

# ---- the capture ----

# place ADDRESS:PORT: as a filter of packets
place() { echo "(host ${1%:*} and tcp port ${1##*:})"; }

# Where the system lets nobody capture, the demo is none the worse for it.
start_capture() {
    loopback=lo
    [ "$(uname)" = Linux ] || loopback=lo0
    : >capture.said
    "$analyze" -i $loopback -f "$(place "$partner") or $(place "$external") or $(place "$internal")" \
        -w demo.pcap >/dev/null 2>capture.said 9>&- &
    analyzer=$!
    echo $! >>pids
    tries=0
    until grep -q capturing capture.said || ! kill -0 $analyzer 2>/dev/null || [ $tries -ge 40 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
}

end_capture() {
    sleep 0.3        # the last packets are under way to the analyzer
    kill -INT $analyzer 2>/dev/null
    wait $analyzer
    analyzer=
}

# ---- the conversation ----

# after ANSWER: "ok 12 ms..." in words
after() {
    ms=${1#ok }
    ms=${ms%% *}
    [ "$ms" -gt 0 ] && echo "after $ms ms" || echo 'within 1 ms'
}

# talk NODE FROM TO: a ping, and a message that has to come back as it was sent
talk() {
    answer=$("$xmppedge" ping "$1.xml" "$3") || fail "the ping was not answered: $answer"
    echo "   $2 pings $3: answered $(after "$answer")"
    answer=$("$xmppedge" message "$1.xml" "$3") || fail "the message was not echoed: $answer"
    [ "${answer#*: }" = '<body>hello across the border</body>' ] ||
        fail "the message has come back changed: $answer"
    echo "   $2 says \"hello across the border\": it came back $(after "$answer")"
}

# ---- the port table ----

# What the status of a node says of its connections: a line each, key:value,key:value
connections() { tr '{}' '\n\n' <"$1.status" | tr -d '"' | grep "^$2"; }
trunk() { connections "$1" 'name:.*,state:up,'; }
stream() { connections "$1" "direction:$2,"; }

# value LINE KEY
value() { printf '%s\n' ",$1" | sed -n "s/.*,$2:\([^,]*\).*/\1/p"; }

# values KEY: of both ends
values() { echo "$(value "$dialled" "$1") $(value "$accepted" "$1")"; }

has_trunk() { ready "$1" && [ -n "$(trunk "$1")" ]; }

# What is wrong with a connection from one address to another, seen from both ends; nothing if it is right.
wrong() {
    if [ "$(printf '%s\n' "$dialled" "$accepted" | grep -c .)" -ne 2 ]; then
        echo 'there is not exactly one such connection'
    elif [ "$(values local)" != "$(value "$accepted" peer) $(value "$dialled" peer)" ]; then
        echo 'its two ends report different addresses'
    elif [ "$(value "$dialled" peer)" != "$2" ]; then
        echo 'it leads to a wrong address'
    elif [ -n "$1" ] && [ "$(value "$dialled" local | sed 's/:[0-9]*$//')" != "${1%:*}" ]; then
        echo 'it comes from a wrong address'
    elif ! values tls | grep -Eq '^TLSv1\.[23] TLSv1\.[23]$'; then
        echo 'it is not encrypted'
    fi
}

# row RULE PROBLEM EVIDENCE...
row() {
    rule=$1
    problem=$2
    shift 2
    if [ -z "$problem" ]; then
        printf '   %-32s ok\n' "$rule"
        printf '          %s\n' "$@"
    else
        printf '   %-32s failed\n          %s\n' "$rule" "$problem"
        broken=$problem
    fi
}

# A line of evidence.
path() { echo "$(value "$dialled" local) -> $(value "$dialled" peer)"; }

# Rows 1 and 2: one stream between partner and edge, proven by certificate.
stream_row() {
    dialled=$(stream "$2" out)
    accepted=$(stream "$3" in)
    count=$(value "$accepted" stanzas)
    problem=$(wrong "$4" "$5")
    if [ -n "$problem" ]; then
        :
    elif [ "$(values method)" != 'sasl-external sasl-external' ]; then
        problem='it is not proven by certificate'
    elif [ "$count" -lt 4 ] || [ "$(values stanzas)" != "$count $count" ]; then
        problem='stanzas are missing'
    fi
    row "$1" "$problem" "$(path)" "$(value "$dialled" tls), sasl-external, $count stanzas"
}

# Row 3: the trunk, dialled by the gateway, with a certificate on both sides.
trunk_row() {
    dialled=$(trunk gateway)
    accepted=$(trunk edge)
    in=$(value "$accepted" in)
    out=$(value "$accepted" out)
    problem=$(wrong '' "$internal")
    if [ -n "$problem" ]; then
        :
    elif [ "$(values certificate)" != 'CN=edge01.corp.example CN=fe01.corp.example' ]; then
        problem='a certificate is missing'
    elif [ "$in" -lt 4 ] || [ "$out" -lt 4 ] || [ "$(values in) $(values out)" != "$in $in $out $out" ]; then
        problem='stanzas are missing'
    fi
    row "$1" "$problem" "$(path)" "$(value "$dialled" tls), both certificates, $((in + out)) stanzas"
}

# Nothing goes from the edge to the inside: what the edge has dialled leads to the partner, and nobody has
# connected to the gateway.
inside_row() {
    count=$(stream edge out | grep -c .)
    problem=
    if [ "$(stream edge out | grep -c ",peer:$partner,")" -ne "$count" ]; then
        problem='the edge has opened a connection that does not lead to the partner'
    elif [ -n "$(stream gateway '[a-z]*')" ]; then
        problem='somebody has connected to the gateway'
    fi
    row "$1" "$problem" "connections that the edge opened: $count, to the partner" \
        'connections that the gateway accepted: none'
}

port_table() {
    broken=
    for node in $nodes; do
        ready "$node" || fail "the $node does not answer"
    done
    stream_row '1      any -> external:5269' partner edge "$partner" "$external"
    stream_row '2      external -> any:5269' edge partner "$external" "$partner"
    trunk_row  '3      gateway -> internal:23456'
    inside_row 'never  edge -> LAN'
    [ -z "$broken" ] || fail "the port table does not hold: $broken"
}

# ---- the play ----

cat <<'END'
Three processes on this machine play an organisation and its partner:
   partner  fabrikam.example, somebody else's server
   edge     edge01.corp.example, our border
   gateway  fe01.corp.example, speaks for corp.example, which an echo plays

1. Certificates are made: the public authority signs fabrikam.example and
   corp.example, the internal one edge01.corp.example and fe01.corp.example.
END
"$xmppedge" authority public fabrikam.example corp.example >made.log 2>&1 &&
    "$xmppedge" authority trunk edge01.corp.example fe01.corp.example >>made.log 2>&1 ||
    fail 'no certificates'

echo '2. The partner and our edge start and wait for connections.'
start_outside
case $plan in
other-ports) echo '   The standard ports are in use on this machine: others take their place.' ;;
one-address) echo '   This machine has one loopback address: ports take the place of others.' ;;
esac
echo "   partner  $partner"
echo "   edge     $external external, $internal internal"
start_capture

cat <<'END'
3. Our gateway starts and connects to our edge, never the other way round; both
   show certificates of the internal authority.
END
start gateway && await gateway has_trunk gateway && await edge has_trunk edge ||
    fail 'a process has ended by itself'

echo '4. From the outside in: partner -> edge -> gateway, and the answers back.'
talk partner fabrikam.example corp.example
echo '5. From the inside out: gateway -> edge -> partner, and the answers back.'
talk gateway corp.example fabrikam.example

echo '6. The port table, held against the connections that the three report:'
port_table
[ -n "$keep" ] || end_all

if ! grep -q capturing capture.said; then
    echo '7. No capture for xmppedge-analyze, this system does not allow one:'
    sed 's/^/   /' capture.said
elif [ "$plan" = one-address ]; then
    echo '7. With one address for all of them, xmppedge-analyze has no port table to check.'
else
    end_capture
    echo '7. What xmppedge-analyze says about their traffic, without any key:'
    echo
    "$analyze" -c edge.xml --require 1,2,3 demo.pcap || fail 'the analyzer does not agree'
fi

if [ -n "$keep" ]; then
    trap 'echo; echo "All of it worked; the files are in $work"; exit 0' HUP INT TERM
    cat <<END

The three ($(pid_of partner), $(pid_of edge), $(pid_of gateway)) go on.  Try, in another terminal:
   $xmppedge status $work/edge.xml
   $xmppedge ping $work/partner.xml corp.example
   $xmppedge ping $work/gateway.xml fabrikam.example
   $xmppedge explain $work/edge.xml fabrikam.example
   $xmppedge ports $work/edge.xml
   tail -f $work/edge.log
Ctrl-C ends them; the folder stays.
END
    while alive partner && alive edge && alive gateway; do
        sleep 0.2
    done
    end_all
    fail 'a process has ended by itself'
fi
printf '\nAll of it worked, in less than %d s.\n' $(($(date +%s) - began + 1))
