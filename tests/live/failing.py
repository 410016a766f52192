"""failing.py -- every failure that a partner, a caller or a gateway can have with one edge, in one recording.

    w = World(); w.lab = Lab(); w.recorder = ...    # record.py
    policies = make_partners(w)                     # scene.py
    make_border(w, policies)
    start_border(w)
    everything_fails(w)
    failure_path(w, i), intruder_path(w, i)         # the capture of FAILURES[i], of INTRUDERS[i - len(FAILURES)]

Used by 60-analyze.t, which looks at all that a report says, and by 62-truth.t, which looks at the cause and what
it rests on.  Of each failure it is known where its cause can be seen.
"""

import os
import time

import lab as lab_module
from edge import TRUNK_PORT, Border, binary, have_binary
from lab import Host, need_programs, read_text
from record import DNS_PORT, analyzer, may_record, own_network
from scene import LIMITS, call, knock, secure_call, trusted_call
from tap import check, note, run, skip_all
from xmpp import NS_TLS, Client, Closed, Stream, Timeout, client_context, ids, message

IN, OUT, INNER, OTHER = '5269-in', '5269-out', '23456-in', 'other'


# ---- the scene ---------------------------------------------------------------------------------

def name_servers(w):
    """The edge has one of its own, on the port where name servers are looked for in captures."""
    w.outside = w.lab.resolver('outside', w.lab.ip(2))
    w.inside = w.lab.resolver('inside', w.lab.ip(4))
    w.edge_dns = w.lab.resolver('edge', w.lab.ip(6))
    w.edge_dns.lines = w.outside.lines
    w.outside.server('corp.example', w.lab.ip(21))
    w.inside.wildcard('example', w.lab.ip(41))


def make_border(w, policies):
    """The edge, a gateway and the inner server, which are not started yet; options for the analyzer."""
    w.corp = w.lab.prosody('corp', w.lab.ip(51), w.inside, [Host('corp.example', users=['bob', 'user'])])
    # 3.5 s: three SYNs, which show that nobody answers, whatever comes later
    w.limits = dict(LIMITS, **{'connect-time': '3500ms', 'attempt-time': '6s', 'dialback-time': '3s',
                               'preauth-time': '5s'})
    w.inner = [w.corp.s2s + (['corp.example'], 'optional')]
    w.border = Border(w.lab, w.pki, w.edge_dns, ['corp.example'], policies, w.inner, edge_limits=w.limits)
    w.border.edge.gateways.append('fe02.corp.example')
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.external, w.internal = w.edge.external[0], w.edge.internal[0]
    authorities = w.lab.write('authorities.pem', ''.join(
        read_text(ca.crt) for ca in (w.pki.public, w.pki.internal)))
    w.options = ['--external', w.external, '--internal', w.internal, '--ca', authorities]
    w.failures = None


def begin(setup, *programs):
    """Run the tests where they can be run: with these programs, and with the right to capture."""
    missing = need_programs(*programs)
    if missing:
        skip_all('not installed: ' + ' '.join(missing))
    if not have_binary() or not os.access(analyzer(), os.X_OK):
        skip_all('no program to test: %s, %s' % (binary(), analyzer()))
    if may_record():
        own_network()               # begins this script again, where that is possible
    if may_record():
        skip_all(may_record())
    lab_module.DNS_PORT = DNS_PORT
    note('testing %s and %s' % (analyzer(), binary()))
    run(setup)


# ---- captures ----------------------------------------------------------------------------------

def begins(packet):
    """A SYN."""
    return packet.protocol == 6 and packet.frame[47] & 0x12 == 0x02


def answers(packet):
    """A SYN with ACK."""
    return packet.protocol == 6 and packet.frame[47] & 0x12 == 0x12


def ends_of(packet):
    return frozenset([(packet.source, packet.sport), (packet.target, packet.dport)])


def is_trunk(w, packet):
    """The trunk of the gateway, which lives as long as the test."""
    return packet.protocol == 6 and TRUNK_PORT in (packet.sport, packet.dport) and \
        ends_of(packet) == w.trunk_ends


def save(w, name, keep, trunk=True):
    """A capture of what keep() accepts, and the whole trunk up to that."""
    path = os.path.join(w.lab.dir, name + '.pcap')
    count = w.recorder.write(path, lambda p: is_trunk(w, p) and trunk or keep(p))
    check(count > 0, 'nothing was recorded')
    return path


def start_border(w):
    """Its trunk is the last that was answered: on a busy machine the first may have been given up."""
    w.border.start()
    w.recorder.mark()
    w.trunk_ends = [ends_of(p) for p in w.recorder.packets
                    if answers(p) and (p.source, p.sport) == w.edge.internal][-1]


# ---- what is expected --------------------------------------------------------------------------

# an attempt: its row, and the cause of its failure ('' when it worked), with alternatives;
# where that can be seen
OPEN = 'open'           # without keys as well
HIDDEN = 'hidden'       # inside TLS, before authentication: without keys only that it was refused
LATE = 'late'           # inside TLS, after authentication: without keys it seems to have worked
NAME = 'name'           # in DNS: no connection followed


def outcome_of(expected, keys):
    row, cause, where = expected
    if cause in ('caller-silent', 'capture-short'):
        return 'cannot-tell'
    return 'worked' if not cause or where == LATE and not keys else 'failed'


def causes_of(expected, keys):
    row, cause, where = expected
    words = cause.split('|')
    if keys or where in (OPEN, NAME):
        return words
    return [''] if where == LATE else words + ['refused-inside-tls']


def fits(found, expected, keys):
    return found['row'] == expected[0] and found['outcome'] == outcome_of(expected, keys) and \
        found['cause'] in causes_of(expected, keys)


# ---- what fails --------------------------------------------------------------------------------

RAW = "<message from='x@raw.example' to='bob@corp.example'>%s</message>"


def quietly(function, *words, **more):
    """Whatever comes of it: how it ends is in the capture."""
    try:
        return function(*words, **more)
    except (Closed, Timeout, AssertionError, OSError):
        return None


def until_end(stream):
    if stream:
        quietly(stream.wait_end, 8)


def opens(frm, to='corp.example', **more):
    def deed(w, source):
        stream = Stream.dial(w.edge.external, source=source)
        quietly(stream.open, frm, to, **more)
        until_end(stream)
    return deed


def shows_certificate(domain):
    return lambda w, source: until_end(quietly(secure_call, w, frm=domain, cert=w.bad.get(domain),
                                               source=source))


def asks_for_dialback(domain):
    def deed(w, source):
        stream, _ = call(w, frm=domain, source=source)
        quietly(stream.dialback)
        stream.close()
    return deed


def sends(text, frm='db.example'):
    """On a stream of its own that is not authenticated; None: not even a header."""
    def deed(w, source):
        if frm:
            stream, _ = call(w, frm=frm, source=source)
        else:
            stream = Stream.dial(w.edge.external, source=source)
        stream.send(text)
        until_end(stream)
    return deed


def sends_trusted(text):
    def deed(w, source):
        stream = trusted_call(w, source=source)
        stream.send(text)
        until_end(stream)
    return deed


def injects(w, source):
    stream, _ = call(w, source=source)
    stream.send("<starttls xmlns='%s'/>" % NS_TLS + RAW % '<body>too early</body>')
    if quietly(stream.wait, 'proceed', 2) is not None:
        quietly(stream.handshake, client_context(w.raw_cert), sni='corp.example')
    until_end(stream)


def is_silent(w, source):
    w.silent = Stream.dial(w.edge.external, source=source)


def knocks(make):
    return lambda w, source: knock(w, make(w.pki), source=source)


def speaks_plain(w, source):
    stream = Stream.dial(w.edge.internal, source=source)
    quietly(stream.open, 'fe01.corp.example', 'edge01.corp.example')
    until_end(stream)


def bad(domain, cause):
    return domain, [(OUT, cause, HIDDEN), (IN, cause, HIDDEN)], shows_certificate(domain)


# what, the partner's domain, the attempts in the capture, what its server does; bob writes to those
# partners with whom an attempt outwards is expected
FAILURES = [
    ('a partner that is not in DNS', 'nxdomain.example',
     [(OUT, 'dns-not-found', NAME), (IN, 'dialback-unreachable', OPEN)],
     asks_for_dialback('nxdomain.example')),
    ('a partner with the SRV target "."', 'noservice.example', [(OUT, 'dns-no-service', NAME)],
     None),
    ('a partner whose port is closed', 'closed.example',
     [(OUT, 'tcp-refused', OPEN), (OUT, 'tcp-refused', OPEN), (IN, 'dialback-unreachable', OPEN)],
     asks_for_dialback('closed.example')),
    ('a partner whose port does not answer', 'deaf.example', [(OUT, 'tcp-timeout', OPEN)], None),
    ('a partner that says nothing', 'silent.example', [(OUT, 'silent-peer', OPEN)], None),
    ('an expired certificate', *bad('expired.example', 'cert-expired')),
    ('a certificate for another name', *bad('wrongname.example', 'cert-name')),
    ('a certificate of an unknown authority', *bad('untrusted.example', 'cert-untrusted')),
    ('a self-signed certificate', *bad('selfsigned.example', 'cert-untrusted')),
    ('a caller without the required certificate', 'strict.example', [(IN, 'cert-missing', HIDDEN)],
     shows_certificate('strict.example')),
    ('a partner without the required TLS', 'notls.example', [(OUT, 'tls-not-offered', OPEN)], None),
    ('a caller that does not use the required TLS', 'raw.example', [(IN, 'tls-required', OPEN)],
     asks_for_dialback('raw.example')),
    ('dialback with invalid keys', 'dbinvalid.example',
     [(OUT, 'dialback-invalid', OPEN), (IN, 'dialback-invalid', OPEN), (OUT, '', OPEN)],
     asks_for_dialback('dbinvalid.example')),
    ('dialback without answers', 'dbsilent.example',
     [(OUT, 'dialback-timeout', OPEN), (OUT, 'dialback-timeout', OPEN),
      (IN, 'dialback-unreachable|dialback-timeout', OPEN)], asks_for_dialback('dbsilent.example')),
    ('dialback answered with item-not-found', 'dberror.example',
     [(OUT, 'host-unknown|dialback-error', OPEN)], None),
    ('dialback where it is switched off', 'nodialback.example', [(IN, 'dialback-error|no-auth-method', OPEN)],
     asks_for_dialback('nodialback.example')),
    ('a partner that is not listed', 'unlisted.example', [(IN, 'policy-violation', OPEN)],
     opens('unlisted.example')),
    ('an inner domain that does not exist', 'raw.example', [(IN, 'host-unknown', OPEN)],
     opens('raw.example', 'elsewhere.example')),
    ('an answer to dialback that nobody asked for', 'db.example', [(IN, 'not-authorized', OPEN)],
     sends("<db:result from='db.example' to='corp.example' type='valid'/>"
           + message('x@db.example', 'bob@corp.example', 'forged'))),
    ('a stanza before authentication', 'db.example', [(IN, 'not-authorized', OPEN)],
     sends(message('x@db.example', 'bob@corp.example', 'too early'))),
    ('a stanza of a domain that was not authorised', 'raw.example', [(IN, 'invalid-from', LATE)],
     sends_trusted(message('x@db.example', 'bob@corp.example', 'not mine'))),
    ('a stanza without an address', 'raw.example', [(IN, 'bad-address', LATE)],
     sends_trusted("<message from='x@raw.example'><body>to whom?</body></message>")),
    ('a stanza that is not XML', 'raw.example', [(IN, 'xml-malformed', LATE)],
     sends_trusted(RAW % '<body>no end</bod>')),
    ('a comment', 'raw.example', [(IN, 'xml-restricted', LATE)],
     sends_trusted(RAW % '<!-- hidden --><body>x</body>')),
    ('a stanza that is too big', 'raw.example', [(IN, 'stanza-too-big', LATE)],
     sends_trusted(RAW % ('<body>%s</body>' % ('x' * 30000)))),
    ('a document type', '', [(IN, 'xml-restricted', OPEN)],
     sends("<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><stream:stream>", None)),
    ('a web browser', '', [(IN, 'not-xmpp', OPEN)],
     sends('GET / HTTP/1.1\r\nHost: corp.example\r\n\r\n', None)),
    ('data behind STARTTLS', 'raw.example', [(IN, 'policy-violation', OPEN)], injects),
    ('a stream header that is too big', '', [(IN, 'policy-violation', OPEN)],
     opens('raw.example', extra=" xmlns:%s='urn:x'" % ('x' * 9000))),
    ('more bytes than are taken before authentication', 'db.example', [(IN, 'policy-violation', OPEN)],
     sends(' ' * 140000)),
    ('a caller that says nothing', '', [(IN, 'caller-silent', OPEN)], is_silent),
]

# the same on 23456
INTRUDERS = [
    ('a trunk without a client certificate', 'cert-missing', HIDDEN, knocks(lambda pki: None)),
    ('a trunk with a certificate of a public authority', 'cert-untrusted', HIDDEN,
     knocks(lambda pki: pki.public.issue('fe01.corp.example'))),
    ('a trunk with an expired certificate', 'cert-expired', HIDDEN,
     knocks(lambda pki: pki.internal.issue('fe01.corp.example', expired=True))),
    ('a trunk of somebody who is not configured', 'cert-name', HIDDEN,
     knocks(lambda pki: pki.internal.issue('intruder.corp.example'))),
    ('a trunk in plain text', 'tls-required', OPEN, speaks_plain),
]


def source_of(w, i, domain):
    """Partners call from the address where they listen; a domain of several cases, or of none, from
    one of the case."""
    everybody = [f[1] for f in FAILURES]
    shared = everybody.count(domain) > 1 or domain not in w.places
    return w.lab.ip(200 + i) if shared else w.places[domain]


def everything_fails(w):
    """All at the same time, because most of it is waiting; addresses tell the captures apart."""
    if w.failures is not None:
        return
    w.failures = w.recorder.mark()
    bob = Client('bob@corp.example', w.corp)
    sent = []
    for _, domain, attempts, _ in FAILURES:
        if any(row == OUT for row, _, _ in attempts):
            sent.append('b%d' % next(ids))
            bob.message('x@' + domain, 'hello', id=sent[-1])
    for i, (_, domain, _, deed) in reversed(list(enumerate(FAILURES))):
        if deed:
            deed(w, source_of(w, i, domain))
    for i, (_, _, _, deed) in enumerate(INTRUDERS, len(FAILURES)):
        deed(w, w.lab.ip(200 + i))
    for id in sent:
        bob.wait_error(id, 15)
    bob.close()
    until_end(w.silent)
    time.sleep(0.3)         # the last good-byes
    w.failures_end = w.recorder.mark()


def failure_path(w, i):
    """A capture of this failure alone, and of the trunk."""
    everything_fails(w)
    _, domain, expected, _ = FAILURES[i]
    pair = {source_of(w, i, domain), w.external}
    label = b''.join(bytes([len(x)]) + x.encode() for x in domain.split('.'))

    def keep(p):
        # a resolver may ask in any case
        asks = p.protocol == 17 and w.edge_dns.ip in (p.source, p.target) \
            and any(row == OUT for row, _, _ in expected) and label in p.frame.lower()
        return w.failures <= p.index < w.failures_end and (asks or {p.source, p.target} == pair)
    return save(w, 'failure-%d' % i, keep)


def intruder_path(w, i, trunk):
    """The same of somebody on 23456; the trunk when it is wanted."""
    everything_fails(w)
    pair = {w.lab.ip(200 + i), w.internal}
    return save(w, 'intruder-%d-%d' % (i, trunk), lambda p: {p.source, p.target} == pair, trunk)
