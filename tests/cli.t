#!/bin/sh
# cli.t -- the commands as a person or a script meets them: output, exit codes, messages.
#
# Exit codes: 0 fine, 1 what was asked for failed, 2 usage or configuration.  XMPPEDGE names another binary.

here=$(cd "$(dirname "$0")" && pwd)
x=${XMPPEDGE:-$here/../xmppedge}
if [ ! -x "$x" ]; then
    echo "1..0 # SKIP no $x"
    exit 0
fi

# ---- asking and comparing ----

count=0
failed=0
out=
err=
code=

# ask ARGUMENTS... : sets out, err, code.  The addresses of the examples are nobody's, which check says
ask() {
    "$x" "$@" >"$work/out" 2>"$work/said" </dev/null
    code=$?
    grep -v 'warning: <[a-z]*ternal> address: .* is no address of this machine: ' "$work/said" >"$work/err"
    out=$(cat "$work/out")
    err=$(cat "$work/err")
    asked="$*"
}

# report RESULT NAME
report() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
        return
    fi
    failed=1
    echo "not ok $count - $2"
    {
        echo "asked: $asked"
        echo "exit code: $code"
        echo "standard output:"
        head -20 "$work/out"
        echo "standard error:"
        head -20 "$work/err"
    } | sed 's/^/# /'
}

# has TEXT PATTERN...: does the text match each of the patterns (grep -E)?
has() {
    text=$1
    shift
    for pattern in "$@"; do
        printf '%s\n' "$text" | grep -Eq -e "$pattern" || return 1
    done
}

fine() { [ "$code" = 0 ] && [ -z "$err" ]; }
refused() { [ "$code" = 2 ] && [ -z "$out" ] && [ -n "$err" ]; }

work=$(mktemp -d "${TMPDIR:-/tmp}/cli-t.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM

# ---- about the program ----

ask --version
fine && has "$out" '^xmppedge [0-9]+\.[0-9]+\.[0-9]+ \(' '[Mm]bed ?TLS [0-9.]+, c-ares [0-9.]+, Mini-XML [0-9.]+\)$'
report $? '--version names the program and its libraries'
has "$out" '^xmppedge prefers (AES-GCM|ChaCha20-Poly1305) \([0-9]+ MB/s\) to .* \([0-9]+ MB/s\)$'
report $? '--version tells which cipher costs less here'
has "$out" '^xmppedge (asks the system what a peer.s TCP has acknowledged|takes what the system has taken for arrived: )'
report $? '--version tells how we know what has arrived'

for option in --help -h; do
    ask $option
    fine && has "$out" 'run FILE' 'check FILE' 'config ' 'import FILE' 'ports FILE' 'status FILE' 'metrics FILE' 'ping FILE DOMAIN' \
        'authority DIR NAME' 'SIGHUP' 'SIGTERM' 'Exit codes'
    report $? "$option names every command"
done

# what is said of each command is told by it, too, and no other
whole=$("$x" --help)
wrong=
for command in $(printf '%s\n' "$whole" | sed -n 's/^  xmppedge \([a-z]*\).*/\1/p'); do
    ask "$command" --help
    fine && has "$out" "^  xmppedge $command" && [ "$(printf '%s\n' "$out" | grep -c '^  xmppedge')" = 1 ] &&
        case $whole in *"$out"*) : ;; *) false ;; esac || wrong="$wrong $command"
    said=$out
    ask help "$command"
    [ "$code$out" = "0$said" ] || wrong="$wrong help:$command"
done
[ -z "$wrong" ] && has "$whole" '^  xmppedge unblock'
report $? "each command tells how it is given:$wrong"
ask block x.xml a.example 5m -h
fine && has "$out" '^  xmppedge block FILE DOMAIN \[TIME\]$' 'until it is unblocked'
report $? 'wherever that is asked'
ask help
fine && [ "$out" = "$whole" ]
report $? 'help tells all, as --help does'

# ---- what a reason means ----

ask why tcp-refused
fine && has "$out" '^tcp-refused$' '^  means +the other server refused the connection$' '^  the peer +no stream error$' \
    '^  a sender +remote-server-not-found, type cancel$' '^  what to do +Check that the server runs'
report $? 'a reason is explained: what it means, what others hear, what to do'
ask why
fine && [ "$(printf '%s\n' "$out" | grep -c '^  what to do  *[A-Z]')" -gt 100 ] &&
    [ "$(printf '%s\n' "$out" | grep -c '^[a-z]')" = "$(printf '%s\n' "$out" | grep -c '^  what to do')" ] &&
    ! printf '%s\n' "$out" | grep -q '^.\{81\}'
report $? 'or all of them, on a terminal of 80 columns'
ask why peer-lots
refused && has "$err" 'there is no reason peer-lots; near it: peer-lost$'
report $? 'the word that was meant is named'
ask why cert
refused && has "$err" 'near it: cert-missing, cert-expired, '
report $? 'and those that it is a part of'
for word in '' zzz "$(printf 'a%.0s' $(seq 300))"; do
    ask why "$word"
    refused && has "$err" "there is no reason $word; xmppedge why lists all\$"
    report $? "no word is near '$(printf '%.9s' "$word")'"
done

# ---- misuse ----

# misuse PATTERN ARGUMENTS...: refused, and the first line says what exactly is wrong
misuse() {
    wanted=$1
    shift
    ask "$@"
    refused && has "$(head -1 "$work/err")" "^xmppedge( [a-z-]+)?: $wanted\$"
    report $? "refused: xmppedge $*"
}

misuse 'a command is needed'
misuse 'unknown command hello' hello
misuse 'unknown option --hello' --hello
misuse 'missing argument FILE' run
misuse 'one argument too many: b' run a b
misuse 'missing argument FILE' check
misuse 'missing argument FILE' import
misuse 'one argument too many: b' check a b
misuse 'expected edge or gateway, found nothing' config nothing
misuse 'one argument too many: more' config edge more
misuse 'missing argument FILE' ports
misuse 'unknown option --wrong' ports a --wrong
misuse 'one argument too many: more' ports a --json more
misuse 'one option is enough, found also --nft' ports a --json --nft
misuse 'missing argument FILE' status
misuse 'unknown option --xml' status a --xml
misuse 'missing argument FILE' status --json
misuse 'missing argument FILE' metrics
misuse 'unknown option --json' metrics a --json
misuse 'missing argument FILE' explain
misuse 'missing argument DOMAIN' explain a --json
misuse 'one argument too many: c' explain a b c
misuse 'one option is enough, found also --json' explain a b --json --offline --json
misuse 'missing value of --as OURS' explain a b --json --as
misuse 'one option is enough, found also --as' explain a b --as c --as d
misuse 'missing argument FILE' ping
misuse 'missing argument DOMAIN' ping a
misuse 'one argument too many: c' ping a b c
misuse 'missing argument DOMAIN' block a
misuse 'one argument too many: d' block a b c d
misuse 'missing argument DOMAIN' unblock a
misuse 'one argument too many: c' unblock a b c
misuse 'one argument too many: b' why a b
misuse 'missing argument DIR' authority
misuse 'missing argument NAME...' authority a
misuse 'unknown option --wrong' authority a b.example --wrong
misuse 'missing value of --days N' authority a b.example --days
misuse 'one option is enough, found also --days' authority a --days 1 b.example --days 2
ask "$(printf '\342\200\256b\033\302\233\377')"
asked='with characters that nobody can see'
refused && has "$err" 'unknown command \\u202eb\\u001b\\u009b\\ufffd$'
report $? 'what cannot be seen is escaped where it is printed'
for days in 0 -1 3651 7d '' x; do
    misuse "expected a number of days from 1 to 3650, found $days" authority a b.example --days "$days"
done
for name in 'a b' ../a a..example a-.example 192.0.2.1 '[::1]' ''; do
    misuse ".*: expected a domain such as edge01.corp.example" authority a "$name"
done
misuse 'straße.example: expected a domain .*' authority a straße.example   # disallowed in IDNA 2008
misuse '.*: the name of a certificate has at most 64 characters' authority a \
    long.long.long.long.long.long.long.long.long.long.long.long.long.corp
misuse 'internal-ca: this is the name of .*' authority a b.example internal-ca
[ ! -e a ]
report $? 'and nothing is made'
misuse 'one argument too many: x' --version x
misuse 'one argument too many: x' --help x
misuse 'expected 1 or 5, found 8' manual 8
misuse 'unknown command nonsense' help nonsense

ask ping a
has "$err" '^usage: xmppedge ping FILE DOMAIN$'
report $? 'and how it is done'
ask explain a
has "$err" '^usage: xmppedge explain FILE DOMAIN \[--json\] \[--offline\] \[--as OURS\]$'
report $? 'two options may go together where they say so'
ask authority
has "$err" '^usage: xmppedge authority DIR NAME\.\.\. \[--days N\]$'
report $? 'also where a value is wanted'

# ---- the authority of the trunk ----

dir=$work/trunk
mode() { stat -c %a "$dir/$1"; }
umask 022
ask authority "$dir" edge01.corp.example FE01.Corp.Example.
fine && has "$out" '^made .*/internal-ca\.pem and internal-ca\.key, until ' '^made .*/dialback\.secret$' \
    '^made .*/edge01\.corp\.example\.pem and edge01\.corp\.example\.key, until ' \
    '^made .*/fe01\.corp\.example\.pem and fe01\.corp\.example\.key, until ' \
    'internal-ca\.key belongs on none'
report $? 'authority makes an authority, a certificate for each name, and a secret'
[ "$(ls "$dir" | tr '\n' ' ')" = 'dialback.secret edge01.corp.example.key edge01.corp.example.pem '\
'fe01.corp.example.key fe01.corp.example.pem internal-ca.key internal-ca.pem ' ]
report $? 'and nothing else'
[ "$(mode .) $(mode internal-ca.key) $(mode edge01.corp.example.key) $(mode dialback.secret)" = \
    '700 600 600 600' ] && [ "$(mode internal-ca.pem) $(mode fe01.corp.example.pem)" = '644 644' ]
report $? 'what is secret is for its user alone'
grep -Eqx '[0-9a-f]{64}' "$dir/dialback.secret" && [ "$(wc -l <"$dir/dialback.secret")" -eq 1 ]
report $? 'the dialback secret has 64 hexadecimal digits'

sums() { (cd "$dir" && ls | grep -v edge02 | xargs cksum); }
before=$(sums)
ask authority "$dir" fe01.corp.example edge02.corp.example --days 3650
fine && has "$out" '^kept .*/internal-ca\.pem and ' '^kept .*/dialback\.secret$' '^kept .*/fe01\.corp' \
    '^made .*/edge02\.corp' && [ "$before" = "$(sums)" ]
report $? 'asked again with one more name it makes that, and keeps what is there'
[ "$(echo "$out" | sed -n 's/^kept.*internal-ca.key, until //p')" = \
    "$(echo "$out" | sed -n 's/^made .*, until //p')" ]
report $? 'no certificate outlives its authority'

if command -v openssl >/dev/null 2>&1; then
    for name in edge01 fe01; do
        for purpose in sslserver sslclient; do
            asked="openssl verify -purpose $purpose $name"
            openssl verify -x509_strict -no-CApath -CAfile "$dir/internal-ca.pem" -purpose $purpose \
                -verify_hostname $name.corp.example "$dir/$name.corp.example.pem" >"$work/out" 2>"$work/err"
            report $? "openssl accepts the certificate of $name as $purpose"
        done
    done
    openssl x509 -in "$dir/edge01.corp.example.pem" -noout -pubkey >"$work/out" 2>"$work/err"
    openssl pkey -in "$dir/edge01.corp.example.key" -pubout 2>"$work/err" | cmp -s - "$work/out"
    report $? 'the key is that of the certificate'
    ask authority "$work/week" a.example --days 7
    openssl x509 -in "$work/week/a.example.pem" -noout -checkend $((7 * 86400 - 600)) >"$work/out" &&
        ! openssl x509 -in "$work/week/a.example.pem" -noout -checkend $((7 * 86400 + 60)) >"$work/out"
    report $? 'a certificate is good for so many days'
fi

# fails NAME PATTERN ARGUMENTS...: exit code 1, and this is the first thing said about it
fails() {
    named=$1
    wanted=$2
    shift 2
    ask authority "$@"
    [ "$code" = 1 ] && has "$(head -1 "$work/err")" "^xmppedge authority: $wanted\$"
    report $? "authority: $named"
}

# broken: a copy of the directory, to be damaged
broken() {
    rm -rf "$work/broken"
    cp -a "$dir" "$work/broken"
}

broken && rm "$work/broken/edge01.corp.example.key"
fails 'half a pair is an error' \
    '[^ ]*/edge01\.corp\.example\.key is missing beside [^ ]*/edge01\.corp\.example\.pem: put it back.*' \
    "$work/broken" edge01.corp.example
broken && rm "$work/broken/internal-ca.pem"
fails 'half an authority is one, too' '[^ ]*/internal-ca\.pem is missing beside [^ ]*/internal-ca\.key: .*' \
    "$work/broken" new.example
broken && cp "$dir/edge01.corp.example.key" "$work/broken/internal-ca.key"
fails 'a key that is not that of the authority' 'the private key .* does not belong to the certificate .*' \
    "$work/broken" new.example
broken && cp "$dir/edge01.corp.example.pem" "$work/broken/internal-ca.pem" &&
    cp "$dir/edge01.corp.example.key" "$work/broken/internal-ca.key"
fails 'what is no authority cannot sign' 'new\.example: what would sign it is not an authority' \
    "$work/broken" new.example
broken && cp "$work"/week/* "$work/broken/"
rm -f "$work/broken"/internal-ca.*
fails 'a certificate of another authority is told' 'a\.example: the authority here does not vouch .*untrusted.*' \
    "$work/broken" a.example
: >"$work/plain"
fails 'a directory that is none' '[^ ]*/plain/internal-ca\.key: Not a directory' "$work/plain" a.example
fails 'a directory in none' '[^ ]*/none/there: No such file or directory' "$work/none/there" a.example
if [ "$(id -u)" -ne 0 ]; then
    mkdir -m 500 "$work/closed"
    fails 'a directory that cannot be written' '[^ ]*/internal-ca\.key: Permission denied' \
        "$work/closed" a.example
fi
if command -v openssl >/dev/null 2>&1; then
    mkdir "$work/old"
    cat >"$work/old.cnf" <<END
[ca]
default_ca = old
[old]
database = $work/old.index
serial = $work/old.serial
new_certs_dir = $work
default_md = sha256
policy = any
x509_extensions = authority
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:true
END
    : >"$work/old.index"
    echo 01 >"$work/old.serial"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=old' \
        -keyout "$work/old/internal-ca.key" -out "$work/old.csr" >/dev/null 2>&1
    openssl ca -config "$work/old.cnf" -batch -selfsign -keyfile "$work/old/internal-ca.key" \
        -startdate 20200101000000Z -enddate 20210101000000Z -in "$work/old.csr" \
        -out "$work/old/internal-ca.pem" >/dev/null 2>&1
    fails 'an authority that has expired signs no more' \
        '[^ ]*/internal-ca\.pem: this authority has expired: .*' "$work/old" a.example
    has "$out" '^kept .* and internal-ca\.key, until 2021-01-01$' && [ ! -e "$work/old/a.example.pem" ]
    report $? 'and nothing is made by it'
    mkdir "$work/own"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 \
        -subj '/O=Corp, Ltd/CN=own' -keyout "$work/own/internal-ca.key" \
        -out "$work/own/internal-ca.pem" >/dev/null 2>&1
    fails 'an authority whose name cannot be repeated exactly' '.*made elsewhere.*' "$work/own" a.example
fi

# ---- the example configurations ----

# The certificates of the trunk are there; those that everybody believes are made in the same way.
"$x" authority "$work/public" corp.example fabrikam.example >/dev/null
mv "$work"/public/*.example.* "$dir"
mv "$work/public/internal-ca.pem" "$dir/public-ca.pem"

ask config
default=$out
fine && has "$out" '^<xmppedge role="edge" name="edge01.corp.example">$'
report $? 'config prints an example'

ask config edge
fine && [ "$out" = "$default" ]
report $? 'config edge is the same'
printf '%s\n' "$out" | sed 's,/etc/ssl/certs/ca-certificates.crt,public-ca.pem,' >"$dir/e.xml"

ask config gateway
fine && has "$out" '^<xmppedge role="gateway" name="fe01.corp.example">$'
report $? 'config gateway prints the other one'
printf '%s\n' "$out" >"$dir/g.xml"

for which in e:edge g:gateway; do
    file=$dir/${which%%:*}.xml
    name=${which##*:}
    ask check "$file"
    fine && has "$out" "^<xmppedge role=\"$name\"" 'hold-time="10s"' '</xmppedge>'
    report $? "check accepts the example for the $name and prints every setting"
    cp "$work/out" "$dir/effective.xml"
    ask check "$dir/effective.xml"
    fine && cmp -s "$work/out" "$dir/effective.xml"
    report $? "what check prints for the $name is a configuration that means the same"
    mkdir -p "$work/empty"
    cp "$file" "$work/empty/x.xml"
    ask check "$work/empty/x.xml"
    refused && has "$err" 'x\.xml:[0-9]+: .*\.pem.*No such file'
    report $? "check of the $name without its files names file and line"
done

# calm: accepted, and no more is said than that partners share an authority which is not the system's
calm() { [ "$code" = 0 ] && ! grep -v 'holds 1 authority that is not in /' "$work/err"; }

awk '{ print } /^  <partners / { for (i = 0; i < 10000; i++)
    print "<partner domain=\"p" i ".example\" sasl=\"optional\"><domain name=\"d.p" i ".example\"/></partner>" }' \
    "$dir/e.xml" >"$dir/many.xml"
ask check "$dir/many.xml"
calm && [ "$(grep -c '<partner domain="p' "$work/out")" = 10000 ]
report $? 'check accepts ten thousand partners, and prints each'
cp "$work/out" "$dir/effective.xml"
ask check "$dir/effective.xml"
calm && cmp -s "$work/out" "$dir/effective.xml"
report $? 'and reads them again'
head -c 16777216 /dev/zero | tr '\0' ' ' | cat - "$dir/e.xml" >"$dir/large.xml"
ask check "$dir/large.xml"
rm "$dir/large.xml"
refused && has "$err" 'large\.xml: expected a file of at most 16 MiB, found a larger one$'
report $? 'a file that is too large is told so'

ask run "$work/empty/x.xml"
refused && has "$err" 'x\.xml:[0-9]+: '
report $? 'run refuses what check refuses'

# ---- bad configurations ----

# bad NAME PATTERN SED-SCRIPT: the edge's example, changed, is refused with this message
bad() {
    sed "$3" "$dir/e.xml" >"$dir/bad.xml"
    ask check "$dir/bad.xml"
    refused && has "$err" "$2"
    report $? "check tells file and line: $1"
}

# line PATTERN: the number of the first line of the example with it
line() {
    grep -n -m 1 -e "$1" "$dir/e.xml" | cut -d : -f 1
}

external=$(line '^  <external')
bad 'an unknown attribute' "bad\.xml:$external: .*prot" '/<external/s/port/prot/'
bad 'an address that is none' "bad\.xml:$external: .*203\.0\.113\.300" 's/203\.0\.113\.10/203.0.113.300/'
bad 'a port that is none' "bad\.xml:$external: .*65536" '/<external/s/5269/65536/'
bad 'an unknown element' "bad\.xml:$external: .*outside" 's/<external/<outside/'
bad 'a missing attribute' "bad\.xml:$external: .*address" 's/<external address="203.0.113.10"/<external/'
bad 'an unknown role' 'bad\.xml:[0-9]+: .*role' 's/role="edge"/role="hedge"/'
bad 'methods that leave no way in' 'bad\.xml:[0-9]+: .*tls="not-supported" sasl="required" dialback="false"' \
    's/tls="required" sasl="optional"/tls="not-supported" sasl="required"/; s/dialback="true"/dialback="false"/'
bad 'markup that does not end' 'bad\.xml:[0-9]+: ' '$d'
bad 'a missing key' 'bad\.xml:[0-9]+: .*nothere\.key.*No such file' 's/"corp\.example\.key/"nothere.key/'
bad 'a key of another certificate' 'bad\.xml:[0-9]+: .*does not belong' 's/"corp\.example\.key/"fabrikam.example.key/'

sed 's/tls="required" sasl="optional"/tls="optional" sasl="optional"/' "$dir/e.xml" >"$dir/doubtful.xml"
ask check "$dir/doubtful.xml"
[ "$code" = 0 ] && has "$err" '^[^ ]*doubtful\.xml:[0-9]+: warning: fabrikam\.example: tls="optional"'
report $? 'check warns of doubtful settings, and accepts them'

chmod 644 "$dir/corp.example.key" "$dir/dialback.secret"
ask check "$dir/e.xml"
chmod 600 "$dir/corp.example.key" "$dir/dialback.secret"
[ "$code" = 0 ] && has "$err" \
    '^[^ ]*e\.xml:[0-9]+: warning: [^ ]*corp\.example\.key: every user of this machine can read' \
    '^[^ ]*e\.xml:[0-9]+: warning: .*dialback\.secret'
report $? 'check warns of secrets that everybody can read'

# ---- warnings ----

ask check "$dir/e.xml"
[ "$code" = 0 ] && has "$(cat "$work/said")" \
    '^[^ ]*e\.xml:[0-9]+: warning: <external> address: 203\.0\.113\.10 is no address of this machine: run cannot listen there$' \
    '^[^ ]*e\.xml:[0-9]+: warning: <internal> address: 10\.0\.0\.5 is no address of this machine: run cannot listen there$'
report $? 'check warns of addresses that are not of this machine'
ask check --strict "$dir/e.xml"
[ "$code" = 1 ] && has "$out" '</xmppedge>'
report $? 'and with --strict it fails'
sed 's/203\.0\.113\.10/127.0.0.2/; s/10\.0\.0\.5/127.0.0.3/' "$dir/e.xml" |
    awk '/^ *<partner / { print "<partner domain=\"fabrikam.example\"/>"; off = 1 } !off { print } /<.partner>/ { off = 0 }' \
        >"$dir/strict.xml"
sed 's/<partner domain="fabrikam.example"/& dialback="true"/' "$dir/strict.xml" >"$dir/doubtful.xml"
ask check "$dir/strict.xml" --strict
[ "$code" = 0 ] && [ ! -s "$work/said" ] && has "$out" 'sasl="required" dialback="false"'
report $? 'a partner with nothing but its domain is no reason to warn'
cp "$work/out" "$dir/effective.xml"
ask check --strict "$dir/effective.xml"
[ "$code" = 0 ] && [ ! -s "$work/said" ]
report $? 'nor is what check prints for it'
ask check "$dir/doubtful.xml" --strict
[ "$code" = 1 ] && has "$err" 'fabrikam\.example: .*is row 1 of the negotiation settings, which is doubtful'
report $? 'dialback that can never be used, and is written, is one'

# ---- partners in files of their own ----

mkdir "$dir/partners.d"
sed '/^  <partners /i <include file="partners.d/*.xml"/>' "$dir/e.xml" >"$dir/pieces.xml"
ask check "$dir/pieces.xml"
fine && ! has "$out" '<include'
report $? 'a pattern that matches no file is fine'
for n in 1 2 3; do
    printf '<!-- %s -->\n<partner domain="p%s.example"\n    sasl="optional" proxy="10.1.1.%s"/>\n' $n $n $n
done >"$dir/partners.d/some.xml"
echo '<partners><partner domain="q.example" sasl="optional"/></partners>' >"$dir/partners.d/one.xml"
ask check "$dir/pieces.xml"
calm && [ "$(grep -c '<partner domain="[pq]' "$work/out")" = 4 ]
report $? 'check prints the partners of every file in one'
cp "$work/out" "$dir/effective.xml"
ask check "$dir/effective.xml"
calm && cmp -s "$work/out" "$dir/effective.xml"
report $? 'and reads them again'
ask ports "$dir/pieces.xml" --json
fine && has "$out" '10\.1\.1\.3'
report $? 'ports knows what stands in them'
(cd "$dir/.." && exec "$x" check "${dir##*/}/pieces.xml") >"$work/out" 2>"$work/err" &&
    sed -i 's/p3/q/' "$dir/partners.d/some.xml"
(cd "$dir/.." && exec "$x" check "${dir##*/}/pieces.xml") >"$work/out" 2>"$work/err"
code=$?
err=$(cat "$work/err")
asked='check with a relative path'
[ "$code" = 2 ] && [ "$err" = "${dir##*/}/partners.d/some.xml:8: expected q.example as a partner domain once, found it \
again; the first is in ${dir##*/}/partners.d/one.xml:1" ]
report $? 'a partner in two of them is told with both places'

# ---- partners that another program has ----

rm "$dir/partners.d/"*
cat >"$dir/lync.txt" <<'END'

Identity                   : fabrikam.com
Domain                     : fabrikam.com
AdditionalDomains          : {corp.fabrikam.com, it.fabrikam.com,
                             Uk.Fabrikam.com...}
PartnerType                : Federated
ConnectionLimit            : 30
TlsNegotiation             : Required
SaslNegotiation            : Optional
SupportDialbackNegotiation : True
EnableKeepAlive            : True
ProxyFqdn                  : xmpp.fabrikam.com
Description                : Contract "4711" <a>
Element                    : <x -- y>

Identity                   : gmail.com
Domain                     : gmail.com
AdditionalDomains          : {}
PartnerType                : PublicUnverified
ConnectionLimit            :
TlsNegotiation             : NotSupported
SaslNegotiation            : NotSupported
SupportDialbackNegotiation : True
EnableKeepAlive            : False
ProxyFqdn                  :
Description                :

END
cat >"$dir/lync.csv" <<'END'
#TYPE Deserialized.Microsoft.Rtc.Management.WritableConfig.Settings.XmppFederation.XmppAllowedPartner
"Identity","Domain","AdditionalDomains","PartnerType","ConnectionLimit","TlsNegotiation","SaslNegotiation","Description"
"a.example","a.example","System.Collections.Generic.List`1[System.String]","PublicVerified","","Required","Optional","a ""b"",
c"
"no domain","no domain","","Federated","","Maybe","Optional",""
"b.example","b.example","c.example d.example","Federated","","Maybe","Optional",""
END
cat >"$dir/prosody.lua" <<'END'
-- s2s_whitelist = { "commented.example" }
s2s_secure_auth = true
s2s_insecure_domains = { "insecure.example" }
--[[ s2s_whitelist = { "also.example" } ]]
modules_enabled = { "s2s_whitelist"; "tls" }
s2s_whitelist = {
  "a.example"; -- one
  'insecure.example',
}
VirtualHost "corp.example"
  s2s_blacklist = { "bad.example" }
END
cat >"$dir/ejabberd.yml" <<'END'
s2s_use_starttls: optional
acl:
  local:
    user_regexp: ""
  trusted:
    server:
      - "a.example"
      - b.example   # one
    server_glob: "*.example"
  more:
    server: [c.example, "d.example"]
  bad:
    server: evil.example
access_rules:
  local:
    allow: local
  s2s:
    - deny: bad
    - allow: trusted
    - allow: more
s2s_access: s2s
END
# imported NAME FILE PARTNERS PATTERN...: a document with so many partners, and what else it says
imported() {
    name=$1 file=$2 n=$3
    shift 3
    ask import "$dir/$file"
    fine && [ "$(grep -c '<partner ' "$work/out")" = "$n" ] && has "$out" "$@"
    report $? "import reads $name"
    cp "$work/out" "$dir/partners.d/one.xml"
    ask check "$dir/pieces.xml"
    [ "$code" = 0 ] && [ "$(grep -c '<partner ' "$work/out")" = $((n + 1)) ]
    report $? 'and check takes it as an included file'
}
imported 'a list of Get-CsXmppAllowedPartner' lync.txt 2 '^    <domain name="uk\.fabrikam\.com"/>$' \
    '^  <!-- fabrikam\.com: AdditionalDomains goes on where .*FormatEnumerationLimit = -1' \
    '^  <!-- fabrikam\.com: Element = <x - - y> has no counterpart -->$' \
    '^  <partner domain="fabrikam\.com" type="federated" connection-limit="30" tls="required" sasl="optional" dialback="true" keepalive="true" proxy="xmpp\.fabrikam\.com" description="Contract &quot;4711&quot; &lt;a>">$' \
    '^  <partner domain="gmail\.com" .*tls="not-supported" sasl="not-supported" dialback="true" keepalive="false"/>$'
ask ports "$dir/pieces.xml"
fine && has "$out" 'xmpp\.fabrikam\.com'
report $? 'so that ports knows the proxy'
cp "$dir/partners.d/one.xml" "$work/wanted"
sed 's/$/\r/' "$dir/lync.txt" | { printf '\377\376'; iconv -f UTF-8 -t UTF-16LE; } >"$dir/utf16.txt"
imported 'the same as PowerShell writes it to a file' utf16.txt 2 fabrikam
cmp -s "$work/wanted" "$dir/partners.d/one.xml"
report $? 'which says the same'
imported 'CSV of Get-CsXmppAllowedPartner' lync.csv 2 '<!-- a\.example: AdditionalDomains is told as System.*: use Format-List -->' \
    'type="public-verified" tls="required" sasl="optional" description="a &quot;b&quot;, c"/>$' \
    '<!-- no domain: this is no domain -->' '<!-- b\.example: TlsNegotiation = Maybe has no counterpart -->' \
    '^    <domain name="d\.example"/>$'
sed 's/,/;/g' "$dir/lync.csv" >"$dir/semicolons.csv"
imported 'CSV with semicolons' semicolons.csv 2 'type="public-verified" tls="required"'
imported 'the whitelist of Prosody' prosody.lua 2 '^  <partner domain="a\.example"/>$' \
    '^  <partner domain="insecure\.example" sasl="optional"/>$' '<!-- bad\.example: it was refused by name there'
imported 'the acl of ejabberd' ejabberd.yml 4 '<!-- TLS was no condition there' '<partner domain="d\.example" sasl="optional"/>' \
    '<!-- server_glob \*\.example: there are no patterns here' '<!-- bad: it was refused by name there'
for n in $(seq 1000); do
    printf 'Domain            : p%s.example\nAdditionalDomains : {q%s.example}\nSaslNegotiation   : Optional\n\n' "$n" "$n"
done >"$dir/thousand.txt"
imported 'a thousand partners' thousand.txt 1000 '^  <partner domain="p1000\.example" sasl="optional">$'
"$x" import - <"$dir/thousand.txt" | cmp -s - "$dir/partners.d/one.xml"
report $? 'import - reads standard input'
ask import "$dir/e.xml"
[ "$code" = 1 ] && [ -z "$out" ] && has "$err" 'e\.xml: expected what Get-CsXmppAllowedPartner prints .*, found none of these$'
report $? 'and says what it does not know'
printf 'Domain : \374.example\n' >"$dir/latin.txt"
ask import "$dir/latin.txt"
[ "$code" = 1 ] && [ -z "$out" ] && has "$err" 'latin\.txt: expected UTF-8, or UTF-16 with a byte order mark, found other bytes$'
report $? 'in which encoding it is to be'
ask import "$dir/nowhere"
[ "$code" = 1 ] && has "$err" 'nowhere: No such file or directory$'
report $? 'and that there is none'

# ---- certificates and keys ----

chmod 644 "$dir/corp.example.pem"
bad 'chain and key swapped' \
    'bad\.xml:[0-9]+: certificate [^ ]*corp\.example\.key: this is a private key: are chain and key swapped\?$' \
    's/chain="corp\.example\.pem" key="corp\.example\.key"/chain="corp.example.key" key="corp.example.pem"/'
[ "$(wc -l <"$work/err")" -eq 1 ]
report $? 'and nothing else'
bad 'a certificate as key' \
    'bad\.xml:[0-9]+: private key [^ ]*corp\.example\.pem: this is a certificate: are chain and key swapped\?$' \
    's/key="corp\.example\.key"/key="corp.example.pem"/'
if command -v openssl >/dev/null 2>&1; then
    openssl pkey -in "$dir/corp.example.key" -aes128 -passout pass:x -out "$dir/locked.key"
    bad 'a key with a password' \
        'bad\.xml:[0-9]+: .*locked\.key: encrypted private keys are not supported; remove the password$' \
        's/"corp\.example\.key/"locked.key/'
fi

# doubt NAME FILE PATTERN SED-SCRIPT: a changed example is accepted with this warning, and no other
doubt() {
    sed "$4" "$dir/$2.xml" >"$dir/doubt.xml"
    ask check "$dir/doubt.xml"
    [ "$code" = 0 ] && has "$err" "^[^ ]*doubt\\.xml:[0-9]+: warning: $3\$" \
        && [ "$(wc -l <"$work/err")" -eq 1 ]
    report $? "check warns of $1"
}

doubt 'a certificate without the name of the edge' e \
    '[^ ]*edge01\.corp\.example\.pem does not name edge02\.corp\.example, the name of this node: no gateway will accept it' \
    's/^\(<xmppedge.*name="\)edge01/\1edge02/'
doubt 'a certificate without the name of the gateway' g \
    '[^ ]*fe01\.corp\.example\.pem does not name fe02\.corp\.example, the name of this node: no edge will accept it' \
    's/^\(<xmppedge.*name="\)fe01/\1fe02/'
doubt 'a trunk that trusts another authority than that of its own certificate' e \
    '[^ ]*edge01\.corp\.example\.pem is not signed by an authority in [^ ]*public-ca\.pem: a gateway .* will not accept it' \
    's/internal-ca\.pem/public-ca.pem/'
doubt 'the same at a gateway' g \
    '[^ ]*fe01\.corp\.example\.pem is not signed by an authority in [^ ]*public-ca\.pem: an edge .* will not accept it' \
    's/internal-ca\.pem/public-ca.pem/'

(cd "$dir/.." && exec "$x" check "${dir##*/}/doubt.xml") >"$work/out" 2>"$work/err"
code=$?
err=$(cat "$work/err")
asked='check with a relative path'
[ "$code" = 0 ] && has "$err" "^${dir##*/}/doubt\\.xml:[0-9]+: warning: ${dir##*/}/fe01\\.corp\\.example\\.pem "
report $? 'files are named from where the configuration is'

# what partners with the same ceilings would refuse
doubt_many() {
    sed "$4" "$dir/$2.xml" >"$dir/doubt.xml"
    ask check "$dir/doubt.xml"
    [ "$code" = 0 ] && has "$err" "^[^ ]*doubt\\.xml:[0-9]+: warning: $3\$"
    report $? "check warns of $1"
}
if command -v openssl >/dev/null 2>&1; then
    openssl req -x509 -newkey rsa:1024 -nodes -keyout "$dir/weak.key" -out "$dir/weak.pem" -days 9 \
        -subj /CN=corp.example -addext subjectAltName=DNS:corp.example 2>/dev/null
    chmod 600 "$dir/weak.key"
    own='s|chain="corp\.example\.pem" key="corp\.example\.key"|chain="weak.pem" key="weak.key"|'
    refused='is beyond the ceilings in <limits>'
    doubt_many 'a key of ours that proves nothing' e \
        "[^ ]*weak\\.pem: certificate 1 \\(CN=corp\\.example\\) $refused, cert-weak: partners .* refuse it" "$own"
    for n in 1 2 3 4 5 6; do
        cat "$dir/corp.example.pem"
    done >"$dir/long.pem"
    doubt_many 'a chain of ours that is too long' e \
        "[^ ]*long\\.pem: certificate 6 \\(.*\\) $refused, cert-chain-length: partners .* refuse it" \
        's|chain="corp\.example\.pem"|chain="long.pem"|'
    doubt_many 'a certificate of ours that is its own authority' e \
        '[^ ]*weak\.pem is self-signed: a partner takes it only with dialback, or pinned' "$own"
    doubt_many 'a certificate of ours that will expire' e '[^ ]*weak\.pem expires in 9 days: renew it' "$own"
    has "$out" '^<!-- certificate for corp\.example, towards servers: until 2[0-9-]+T[0-9:]+Z, expires in 9 days -->$' &&
        has "$out" '^<!-- certificate for edge01\.corp\.example on the trunk: until 2'
    report $? 'check prints until when our certificates are good'
    (
        cd "$dir"
        openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 99 -subj /CN=root
        for name in middle leaf; do
            openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
        done
        echo basicConstraints=critical,CA:TRUE >middle.ext
        printf '%s\n' extendedKeyUsage=serverAuth subjectAltName=DNS:corp.example >leaf.ext
        openssl x509 -req -in middle.csr -CA root.pem -CAkey root.key -CAcreateserial -days 99 -extfile middle.ext \
            -out middle.pem
        openssl x509 -req -in leaf.csr -CA middle.pem -CAkey middle.key -CAcreateserial -days 99 -sha1 \
            -extfile leaf.ext -out leaf.pem
        cat leaf.pem middle.pem >both.pem
        chmod 600 leaf.key
    ) 2>/dev/null
    own='s|chain="corp\.example\.pem" key="corp\.example\.key"|chain="leaf.pem" key="leaf.key"|'
    own="$own; s|<trust ca=\"public-ca.pem\"|<trust ca=\"root.pem\"|"
    doubt_many 'a chain of ours without its intermediate certificate' e \
        '[^ ]*leaf\.pem: the chain ends with a certificate that is signed by CN=middle, which is no authority in [^ ]*root\.pem: .*' \
        "$own"
    doubt_many 'a certificate of ours that is for servers only' e \
        '[^ ]*leaf\.pem is for servers only \(.*\): when we call, a partner may refuse it, and dialback .*' "$own"
    own="$own; s|leaf\.pem|both.pem|"
    doubt_many 'a signature in our chain that proves nothing' e \
        '[^ ]*both\.pem: a signature or a key in this chain is weaker than partners accept .*' "$own"
    ! has "$err" 'chain ends with'
    report $? 'and of nothing that is missing in a chain that is whole'
    doubt_many 'an authority whose key proves nothing' e \
        "[^ ]*weak\\.pem: authority 1 \\(.*\\) $refused, cert-weak: nothing that it signs is accepted" \
        's|public-ca\.pem|weak.pem|'
fi

# who vouches for whom: an authority that several partners share, and is not the system's
another='s|^  </partners>|<partner domain="contoso.example" dialback="false"/>&|'
if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
    doubt 'a private authority that may vouch for several partners' e \
        '[^ ]*public-ca\.pem holds 1 authority that is not in /etc/ssl/certs/ca-certificates\.crt \(.*\): each may vouch for every partner; one .*' \
        "$another"
    sed "$another; s|<trust ca=\"public-ca.pem\"/>|<trust ca=\"/etc/ssl/certs/ca-certificates.crt\"/>|" \
        "$dir/e.xml" >"$dir/calm.xml"
    ask check "$dir/calm.xml"
    [ "$code" = 0 ] && ! has "$err" ' holds '
    report $? "and not of the system's own"
fi
another='s|^  </partners>|<partner domain="contoso.example" dialback="false"><trust ca="internal-ca.pem"/></partner>&|'
sed "$another" "$dir/e.xml" >"$dir/calm.xml"
ask check "$dir/calm.xml"
fine && has "$out" '<trust ca="[^"]*internal-ca\.pem"/>'
report $? 'nor where each partner has an authority of its own'

if id nobody >/dev/null 2>&1; then
    chmod 711 "$work" "$dir"
    chmod 644 "$dir"/*.pem "$dir/g.xml"
    ask check "$dir/g.xml"
    fine
    report $? 'check without a user to become'
    sed 's,^</xmppedge>,<run user="nobody"/>&,' "$dir/g.xml" >"$dir/nobody.xml"
    chmod 644 "$dir/nobody.xml"
    ask check "$dir/nobody.xml"
    [ "$code" = 0 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && has "$err" \
        '^[^ ]*nobody\.xml:[0-9]+: warning: after becoming nobody, a reload cannot read .*fe01\.corp\.example\.key because of its mode$'
    report $? 'check warns of keys that a reload could not read'
    chmod 700 "$dir"
fi

ask check "$dir/none.xml"
refused && has "$err" 'none\.xml: .*No such file'
report $? 'a configuration that is not there'

ask check "$dir"
refused
report $? 'a directory is no configuration'

# ---- ports ----

ask ports "$dir/e.xml"
fine && has "$out" '^row ' '^1 .*TCP/5269 +any +203\.0\.113\.10 ' '^2 .*TCP/5269 +203\.0\.113\.10 +any ' \
    '^3 .*MTLS/23456 +any gateway +10\.0\.0\.5 ' '^# besides the rows: DNS, UDP and TCP port 53, ' \
    '^never +any +10\.0\.0\.5 +any ' '^never +any +203\.0\.113\.10 +the inside ' \
    '^# not in row 2: .*5270 or 443$' && [ "$(grep -vc '^#' "$work/out")" -eq 6 ]
report $? 'ports: a table with three rows, and what is never one'

mkdir "$work/alone"
cp "$dir/e.xml" "$dir/g.xml" "$work/alone"
for arguments in 'ports e' 'ports e --nft' 'ports g --json'; do
    set -- $arguments
    ask "$1" "$work/alone/$2.xml" ${3:+"$3"}
    fine
    report $? "needs no certificates: $arguments"
done
ask ports --json "$dir/e.xml"
fine
report $? 'an option may come first'

ask ports "$dir/e.xml" --nft
fine && has "$out" '^table ' 'ip daddr 203\.0\.113\.10 tcp dport 5269 .*accept' \
    'ip saddr 203\.0\.113\.10 tcp dport 5269 .*accept' 'ip daddr 10\.0\.0\.5 tcp dport 23456 .*accept' \
    'ip saddr 10\.0\.0\.5 .*drop' 'ip saddr 203\.0\.113\.10 .*jump never' '# <run user="\.\.\."/> is absent'
report $? 'ports --nft: rules for the three rows, and never into the inside'

ask ports "$dir/e.xml" --iptables
fine && has "$out" '-d 203\.0\.113\.10 --dport 5269 .*-j ACCEPT' \
    '-s 203\.0\.113\.10 --dport 5269 .*-j ACCEPT' '-d 10\.0\.0\.5 --dport 23456 .*-j ACCEPT' '-s 10\.0\.0\.5 .*-j DROP' \
    '-s 203\.0\.113\.10 -j XMPPEDGE-NEVER'
report $? 'ports --iptables: the same'
sh -n "$work/out"
report $? 'ports --iptables is a script'

awk 'BEGIN { q = "\""
        for (i = 0; i < 20000; i++)
            printf "<source address=%s10.%d.%d.%d%s/>\n", q, i / 65536, i / 256 % 256, i % 256, q }' >"$work/sources"
sed "/<domain name=.*/r $work/sources" "$dir/g.xml" >"$dir/many.xml"
ask ports "$dir/many.xml" --nft
[ "$code" = 0 ] && [ "$(grep -c 'inner server' "$work/out")" = 20001 ] && tail -1 "$work/out" | grep -q '^}$'
report $? 'ports --nft of 20,000 sources is whole'

# twice NAME LOAD LIST: in a network of its own, loading the rules a second time changes nothing
twice() {
    asked=$1
    unshare -n sh -ec "$2; { $3; } >'$work/once'; $2; { $3; } >'$work/twice'" >"$work/out" 2>"$work/err"
    code=$?
    [ $code = 0 ] && grep -q 23456 "$work/once" && cmp -s "$work/once" "$work/twice"
    report $? "$1 loads, and again with the same result"
}

for node in e g; do
    if unshare -n nft list ruleset >/dev/null 2>&1; then
        "$x" ports "$dir/$node.xml" --nft >"$work/rules"
        twice "ports $node --nft" "nft -f '$work/rules'" 'nft list ruleset'
    fi
    if unshare -n sh -c 'iptables -S && ip6tables -S' >/dev/null 2>&1; then
        "$x" ports "$dir/$node.xml" --iptables >"$work/rules"
        twice "ports $node --iptables" "sh -e '$work/rules'" 'iptables -S; ip6tables -S'
    fi
done

sed 's/\(<edge .*address="\)[^"]*/\1inside.corp.example/' "$dir/g.xml" >"$dir/host.xml"
for format in --nft --iptables; do
    ask ports "$dir/host.xml" $format
    refused && has "$err" 'host\.xml:[0-9]+: <edge> address: .* found the host name inside\.corp\.example; '
    report $? "ports $format makes no rules of host names"
done

ask ports "$dir/e.xml" --json
fine && has "$out" '"row":1.*"port":5269.*"source":"any","destination":"203\.0\.113\.10"' \
    '"row":2.*"port":5269.*"source":"203\.0\.113\.10","destination":"any"' \
    '"row":3.*"port":23456.*"source":"any","destination":"10\.0\.0\.5"'
report $? 'ports --json: the same'
if command -v python3 >/dev/null 2>&1; then
    python3 -c 'import json, sys; sys.exit(len(json.load(sys.stdin)["rows"]) != 3)' <"$work/out"
    report $? 'ports --json is JSON with three rows'
fi

ask ports "$dir/g.xml"
fine && has "$out" '^3 .*23456 .*10\.0\.0\.5' && ! has "$out" '^[12] '
report $? 'ports of the gateway: its side of row 3'

ask ports "$dir/none.xml"
refused
report $? 'ports of a configuration that is not there'

# ---- no service ----

silence() {
    ask "$@"
    [ "$code" = 1 ] && [ -z "$out" ] && has "$err" 'edge\.sock: nobody answers .*is the service running'
    report $? "without a service: $1 $3"
}

sed 's,^</xmppedge>,<control socket="edge.sock"/>&,; s/203\.0\.113\.10/127.93.17.1/; s/10\.0\.0\.5/127.93.17.2/' \
    "$dir/e.xml" >"$dir/edge.xml"
silence status "$dir/edge.xml"
silence status "$dir/edge.xml" --json
silence metrics "$dir/edge.xml"
silence metrics "$dir/edge.xml" --text
silence ping "$dir/edge.xml" corp.example
silence explain "$dir/edge.xml" far.example --json
silence block "$dir/edge.xml" far.example 5m
silence unblock "$dir/edge.xml" far.example

alone() {
    ask explain "$1" "$2" --offline
    [ "$code" = 1 ] && [ -z "$out" ] && has "$err" "^failed: $3\$"
    report $? "explain --offline: $3"
}
alone "$dir/edge.xml" corp.example 'this is a domain of ours: ping it'
alone "$dir/edge.xml" 'a b' 'this is not a domain'
alone "$dir/g.xml" far.example 'this node is a gateway: its edge knows the partners'

ask status "$dir/none.xml"
refused
report $? 'status of a configuration that is not there'

mkdir "$work/only"
cp "$dir/edge.xml" "$work/only"
ask status "$work/only/edge.xml"
[ "$code" = 1 ] && has "$err" 'edge\.sock: nobody answers'
report $? 'status needs no certificates'

sed 's,<control socket="edge.sock"/>,<control socket="nowhere/edge.sock"/>,' "$dir/edge.xml" >"$dir/late.xml"
ask run "$dir/late.xml"
refused && ! has "$err" ' ready ' && has "$err" "late\\.xml: cannot open the control socket .*: there is no \
directory $dir/nowhere: create it, or set <control socket="
report $? 'run without the directory of its control socket says what to do, and never that it is ready'

# ---- an answer that is cut short ----

if command -v python3 >/dev/null 2>&1; then
    sed 's,<control socket="edge.sock"/>,<control socket="cut.sock"/>,' "$dir/edge.xml" >"$dir/cut.xml"
    for form in '' --json; do
        python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
c = s.accept()[0]
c.recv(100)
c.sendall(b"{\"version\":\"0\"\n")' "$dir/cut.sock" &
        until [ -S "$dir/cut.sock" ]; do sleep 0.1; done
        # shellcheck disable=SC2086  # no word is no argument
        ask status "$dir/cut.xml" $form
        [ "$code" = 1 ] && has "$out" version && has "$err" 'the answer was cut short'
        report $? "an answer that is cut short is printed, and no success: status $form"
        wait
        rm "$dir/cut.sock"
    done
fi

# ---- an answer that comes before the question, or never ----

if command -v python3 >/dev/null 2>&1; then
    for words in 'failed: too many questions at a time' ''; do
        python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
c = s.accept()[0]
c.sendall(sys.argv[2].encode())
c.close()' "$dir/cut.sock" "$words" &
        until [ -S "$dir/cut.sock" ]; do sleep 0.1; done
        ask status "$dir/cut.xml"
        if [ -n "$words" ]; then
            [ "$code" = 1 ] && has "$out" '^failed: too many questions'
        else
            [ "$code" = 1 ] && has "$err" 'the service is there and does not answer' && ! has "$err" 'is the service running'
        fi
        report $? "who is refused before he has asked is told so: ${words:-nothing}"
        wait
        rm "$dir/cut.sock"
    done
fi

# ---- output that cannot be written ----

if [ -c /dev/full ]; then
    for arguments in config --help manual completion --version "authority $dir edge01.corp.example"; do
        # shellcheck disable=SC2086  # words
        "$x" $arguments >/dev/full 2>"$work/err" </dev/null
        code=$?
        asked="$arguments >/dev/full"
        [ $code = 1 ] && has "$(cat "$work/err")" '^xmppedge: cannot write to standard output'
        report $? "a full disk is a failure: $arguments"
    done
fi

echo "1..$count"
exit $failed
