#!/usr/bin/env python3
"""60-analyze.t -- what the analyzer says about captures of real federation, with and without keys.

    partner server --5269--> edge <==23456== gateway --> inner server
                              |
                          recorder --> captures --> xmppedge-analyze

Everything on the loopback interface is recorded.  For each case the packets at the edge that belong
to it are cut out: its connections with the partner, the edge's questions to its name server, and
the trunk.  The analyzer sees each capture twice: with the secrets that keylog.c took from the
servers, and without.  What cannot be known without keys is to be called inferred or unknown, and
never to be wrong.

Without the right to capture, the test moves to a network of its own, where users may have one.
Environment: XMPPEDGE_ANALYZE names another analyzer, XMPPEDGE_SHOW=1 prints what every report says.
"""
import os
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab as lab_module                                                       # noqa: E402
from edge import TRUNK_PORT, Border, Edge, Gateway, Pki                        # noqa: E402
from edge import binary, have_binary, partner                                  # noqa: E402
from lab import DIRECT_PORT, Host, Lab, need_programs, read_text, self_signed  # noqa: E402
from record import DNS_PORT, KeyLogs, Live, Recorder                           # noqa: E402
from record import analyze, analyzer, may_record, own_network                  # noqa: E402
from scene import LIMITS, STRICT, World, call, knock                           # noqa: E402
from scene import make_partners, secure_call, trusted_call                     # noqa: E402
from tap import Skip, check, equal, note, run, skip_all, test, tests           # noqa: E402
from xmpp import NS_TLS, Client, Closed, Stream, Timeout                       # noqa: E402
from xmpp import client_context, converse, ids, message                        # noqa: E402

IN, OUT, INNER, OTHER = '5269-in', '5269-out', '23456-in', 'other'

# partner domain, what it is, how it proves itself, setting of the edge
CELLS = [
    ('pa.example', 'Prosody with a CA certificate', 'EXTERNAL', STRICT),
    ('ej.example', 'ejabberd with a CA certificate', 'EXTERNAL', STRICT),
    ('paself.example', 'Prosody with a self-signed certificate', 'dialback',
     dict(tls='required', sasl='optional', dialback=True)),
    ('direct.example', 'Prosody with direct TLS', 'EXTERNAL', STRICT),
    ('plain.example', 'Prosody without TLS', 'dialback',
     dict(tls='optional', sasl='optional', dialback=True)),
]


# ---- the scene ---------------------------------------------------------------------------------

def name_servers(w, lab):
    """The edge has one of its own, on the port where name servers are looked for in captures."""
    w.outside = lab.resolver('outside', lab.ip(2))
    w.direct = lab.resolver('outside-direct', lab.ip(3))
    w.inside = lab.resolver('inside', lab.ip(4))
    w.edge_dns = lab.resolver('edge', lab.ip(6))
    w.edge_dns.lines = w.outside.lines
    w.outside.server('corp.example', lab.ip(21))
    w.direct.server('corp.example', lab.ip(21), port=None, direct=5269)
    w.inside.wildcard('example', lab.ip(41))
    for n, domain in enumerate(('pa.example', 'paself.example', 'plain.example', 'ej.example'), 61):
        w.outside.server(domain, lab.ip(n))
    w.outside.server('direct.example', lab.ip(65), port=None, direct=DIRECT_PORT)


def partner_servers(w, lab, pki):
    ca = pki.public

    def prosody(name, n, *cert, dns=w.outside, **more):
        host = Host(name + '.example', *cert, secure='secure' in more)
        return lab.prosody(name, lab.ip(n), dns, [host], direct='direct' in more)
    w.servers = {
        'ej.example': lab.ejabberd('ej', lab.ip(64), w.outside,
                                   [Host('ej.example', ca.issue('ej.example'), ca)]),
        'pa.example': prosody('pa', 61, ca.issue('pa.example'), ca, secure=1),
        'paself.example': prosody('paself', 62, self_signed(lab, 'paself.example'), pki.unknown()),
        'plain.example': prosody('plain', 63),
        'direct.example': prosody('direct', 65, ca.issue('direct.example'), ca, dns=w.direct,
                                  secure=1, direct=1)}


def setup():
    w = World()
    w.lab = lab = Lab()
    w.recorder = Recorder(lab)
    w.keys = KeyLogs(lab)
    if w.keys.missing:
        note('nothing is said about captures with keys: ' + w.keys.missing)
    w.pki = pki = Pki(lab)
    name_servers(w, lab)
    policies = make_partners(w) + [partner(domain, **policy) for domain, _, _, policy in CELLS]
    for resolver in (w.outside, w.direct, w.inside, w.edge_dns):
        resolver.start()
    partner_servers(w, lab, pki)
    corp = Host('corp.example', users=['bob', 'user'])
    w.corp = lab.prosody('corp', lab.ip(51), w.inside, [corp])
    # 3.5 s: three SYNs, which show that nobody answers, whatever comes later
    limits = dict(LIMITS, **{'connect-time': '3500ms', 'attempt-time': '6s', 'dialback-time': '3s',
                             'preauth-time': '5s'})
    w.inner = [w.corp.s2s + (['corp.example'], 'optional')]
    w.border = Border(lab, pki, w.edge_dns, ['corp.example'], policies, w.inner,
                      edge_limits=limits)
    w.border.edge.gateways.append('fe02.corp.example')
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.lonely = Edge(lab, 'edge02', lab.ip(22), lab.ip(32), pki, w.edge_dns, w.edge.domains,
                    policies, limits=limits)
    w.external, w.internal = w.edge.external[0], w.edge.internal[0]
    authorities = lab.write('authorities.pem', ''.join(
        read_text(ca.crt) for ca in (pki.public, pki.internal)))
    w.options = ['--external', w.external, '--internal', w.internal, '--ca', authorities]
    w.failures = None
    lab.wait_ready(w.corp, *w.servers.values())
    w.border.start()
    return w


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
    if not hasattr(w, 'trunk_ends'):
        w.recorder.mark()
        # the first SYN may have come too early for the edge: its answer counts
        w.trunk_ends = next(ends_of(p) for p in w.recorder.packets
                            if answers(p) and (p.source, p.sport) == w.edge.internal)
    path = os.path.join(w.lab.dir, name + '.pcap')
    count = w.recorder.write(path, lambda p: is_trunk(w, p) and trunk or keep(p))
    check(count > 0, 'nothing was recorded')
    return path


def save_window(w, name, since, until, hosts, trunk=True):
    """The connections of these hosts that were opened between two marks, and their DNS."""
    opened = {ends_of(p) for p in w.recorder.packets[since:until] if begins(p)}

    def keep(p):
        return since <= p.index < until and (p.source in hosts or p.target in hosts) and (
            p.protocol == 17 or ends_of(p) in opened)
    return save(w, name, keep, trunk)


def at_edge(w):
    return {w.external, w.internal, w.edge_dns.ip}


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


def look(w, path, *words, options=None):
    """A report; a text of it is shown when one of the checks fails."""
    report = analyze(path, *(w.options if options is None else options), *words)
    report.keys = '-k' in words
    if os.environ.get('XMPPEDGE_SHOW'):
        note('%s %s\n%s' % (os.path.basename(path), 'with keys' if report.keys else 'without keys',
                            report.show()))
    return report


def both(w, path, options=None):
    """The report with keys, if there are any, and the one without."""
    words = w.keys.options() if not w.keys.missing else []
    return ([look(w, path, *words, options=options)] if words else []) + \
        [look(w, path, options=options)]


def agree(report, expected, violations=()):
    """Every attempt is as expected, none is missing, and none is invented."""
    left = list(report.attempts)
    keys = report.keys
    for e in expected:
        found = [a for a in left if fits(a, e, keys)]
        check(found, '%s keys: no attempt %s %s in\n%s'
              % ('with' if keys else 'without', e, causes_of(e, keys), report.show()))
        left.remove(found[0])
        honest(found[0], e, report)
    check(not left, '%s keys: more attempts than expected:\n%s'
          % ('with' if keys else 'without', report.show()))
    equal(sorted(set(report.violations)), sorted(violations), 'violations of\n' + report.show())
    failed = any(outcome_of(e, keys) == 'failed' for e in expected)
    equal(report.status, 1 if failed or violations else 0, 'exit status of\n' + report.show())


def honest(attempt, expected, report):
    """What was inferred is called inferred; the direction follows from the row."""
    row, cause, where = expected
    text = '%s of\n%s' % (expected, report.show())
    if row in (IN, OUT):
        equal(attempt['direction'], 'in' if row == IN else 'out', 'direction, ' + text)
    if where in (HIDDEN, LATE):
        equal(attempt['keys_would_help'], not report.keys, 'keys_would_help, ' + text)
        equal(attempt['reached_inferred'], not report.keys, 'reached_inferred, ' + text)
    if where == HIDDEN:
        equal(attempt['cause_inferred'], not report.keys, 'cause_inferred, ' + text)


def row_is(report, row, state, ruling):
    found = report.rows[row]
    equal((found['state'], found['ruling']), (state, ruling),
          'row %s of\n%s' % (row, report.show()))


def rows_agree(report, expected):
    """States and rulings of rows follow from their attempts."""
    for row in (IN, OUT, INNER):
        here = [e for e in expected if e[0] == row and e[2] != NAME]
        outcomes = [outcome_of(e, report.keys) for e in here]
        working = any(not e[1] or e[2] == LATE for e in here)
        failed = 'failed' in outcomes
        state = ('partly' if failed else 'works') if working else 'fails' if failed else \
            'unclear' if here else 'not seen'
        row_is(report, row, state, 'conforms' if working else 'cannot-tell')


def trunk_is_mutual(report):
    """23456 with certificates on both sides: a fact with keys or in TLS 1.2, otherwise inferred."""
    row = report.rows[INNER]
    trunk = next(a for a in report.attempts if a['row'] == INNER and a['outcome'] == 'worked')
    proven = report.keys or trunk['of']['tls']['version'] == 'TLS 1.2'
    equal((row['mutual_tls_proven'], row['mutual_tls_inferred']), (1, 0) if proven else (0, 1),
          'mutual TLS on 23456 (proven, inferred) of\n' + report.show())
    check(trunk['reached'] in ('authenticated', 'stanzas'), 'the trunk reached ' + trunk['reached'])
    if report.keys:
        equal(trunk['method'], 'trunk', 'method of the trunk')
        equal(trunk['of']['initiator']['domain'], 'fe01.corp.example', 'name of the gateway')


def partner_of(report, domain):
    found = [p for p in report.partners if p['theirs'] == domain]
    check(found, 'no partner %s in\n%s' % (domain, report.show()))
    return found[0]


# ---- cells that work ---------------------------------------------------------------------------

def cell_attempts(domain, method):
    """Both directions, for dialback the edge's question as well, and the trunk."""
    out = OTHER if domain == 'direct.example' else OUT
    question = [(OUT, '', OPEN)] if method == 'dialback' else []
    return [(IN, '', OPEN), (out, '', OPEN), (INNER, '', OPEN)] + question


def talk(w, domain):
    """Two users; long enough for TLS without keys to show that they go on."""
    alice = Client('user@' + domain, w.servers[domain])
    bob = Client('user@corp.example', w.corp)
    since = w.recorder.mark()
    converse(alice, bob)
    time.sleep(1.1)
    for one, other in ((alice, bob), (bob, alice)):
        one.message(other.jid, 'again from ' + domain)
        other.wait_message('again from ' + domain, sender=one)
    until = w.recorder.mark()
    alice.close()
    bob.close()
    return save_window(w, domain, since, until, at_edge(w))


def cell_report(w, report, domain, method):
    plain = domain == 'plain.example'
    expected = cell_attempts(domain, method)
    agree(report, expected, ['plain-stanzas'] if plain else [])
    for row in (IN, OUT):
        if any(e[0] == row for e in expected):
            row_is(report, row, 'works', 'violates' if plain else 'conforms')
    if domain == 'direct.example':      # an SRV record leads the edge to a port of its own
        row_is(report, OTHER, 'works', 'conforms')
    row_is(report, INNER, 'works', 'conforms')
    trunk_is_mutual(report)
    # direct TLS names nobody in plain text but the domain that is called
    for way in ('in', 'out') if report.keys or domain != 'direct.example' else ('out',):
        of = partner_of(report, domain)[way]
        text = '%s %s of\n%s' % (domain, way, report.show())
        equal((of['failed'], of['unknown'], of['reached']), (0, 0, 'stanzas'), text)
        check(report.keys or plain or of['reached_inferred'], 'not called inferred: ' + text)
        check(method in of['method'], 'method %s: %s' % (of['method'], text))
        if report.keys or plain:
            equal(of['method'], method, 'method, ' + text)
            check(of['message'] >= 2 and of['presence'] and of['iq'], 'stanzas, ' + text)
        if method == 'EXTERNAL' and (report.keys or of['tls_version'] == 'TLS 1.2'):
            equal(of['client_certificate'], True, 'client certificate, ' + text)


def cell(domain, method):
    def look_at_it(w):
        w.cells = getattr(w, 'cells', {})
        w.cells[domain] = path = talk(w, domain)
        for report in both(w, path):
            cell_report(w, report, domain, method)
    return look_at_it


for domain, what, method, _ in CELLS:
    function = cell(domain, method)
    function.sentence = 'federation with %s works' % what
    tests.append(function)


def cell_path(w, domain):
    return getattr(w, 'cells', {}).get(domain) or talk(w, domain)


def addresses_are(w, report, source):
    for side, address in (('external', w.external), ('internal', w.internal)):
        equal((report.capture[side], report.capture[side + '_source']), ([address], source), side)


@test
def addresses_come_from_the_configuration_of_the_edge(w):
    for report in both(w, cell_path(w, 'ej.example'), ['-c', w.edge.path]):
        cell_report(w, report, 'ej.example', 'EXTERNAL')
        addresses_are(w, report, 'configuration')


@test
def addresses_are_inferred_when_nobody_tells_them(w):
    for report in both(w, cell_path(w, 'pa.example'), []):
        cell_report(w, report, 'pa.example', 'EXTERNAL')
        addresses_are(w, report, 'inferred')
        check('inferred' in report.rows[IN]['why'], 'why: ' + report.rows[IN]['why'])


@test
def the_keys_of_one_side_open_its_connections_only(w):
    if w.keys.missing:
        raise Skip(w.keys.missing)
    for domain, name in (('pa.example', 'pa'), ('ej.example', 'ej'), ('pa.example', 'fe01')):
        words = w.keys.options(name)
        check(words, 'no keys of ' + name)
        report = look(w, cell_path(w, domain), *words)
        for a in report.attempts:
            readable = (a['row'] == INNER) == (name == 'fe01')
            equal((a['outcome'], a['reached'], a['of']['tls']['decrypted'], a['reached_inferred']),
                  ('worked', 'stanzas', readable, not readable),
                  '%s of\n%s' % (a['row'], report.show()))


@test
def keys_that_fit_nothing_are_called_so(w):
    if w.keys.missing:
        raise Skip(w.keys.missing)
    report = look(w, cell_path(w, 'pa.example'), *w.keys.options('ej'))
    equal(report.capture['keys_used'], 0, 'keys used')
    remarks = [r['remark'] for r in report.capture['remarks']]
    check('keys-unused' in remarks, 'no remark keys-unused: %s' % remarks)


@test
def the_gateway_sees_its_own_trunk(w):
    path = save(w, 'gateway', lambda p: False)
    for report in both(w, path, ['-c', w.gateway.path]):
        agree(report, [(INNER, '', OPEN)])
        row_is(report, INNER, 'works', 'conforms')
        row_is(report, IN, 'not seen', 'cannot-tell')
        trunk_is_mutual(report)


@test
def a_required_row_that_was_not_seen_is_reported(w):
    path = save(w, 'trunk', lambda p: False)
    report = look(w, path, '--require', '23456-in')
    equal((report.status, report.summary['missing_rows']), (0, ''), 'a row that was seen')
    report = look(w, path, '--require', '1,2,3')
    equal((report.status, report.summary['missing_rows']), (4, '5269-in 5269-out'), 'missing rows')


@test
def the_interface_itself_can_be_watched(w):
    live = Live(w.lab, '-f', 'host %s and host %s' % (w.external, w.raw.address[0]), *w.options)
    live.wait_watching()
    bob = Client('bob@corp.example', w.corp)
    stream = trusted_call(w, source=w.raw.address[0])
    stream.send(message('x@raw.example', bob.jid, 'live'))
    bob.wait_message('live')
    bob.message('x@raw.example', 'answer')
    w.raw.wait_message('answer')
    stream.close()
    bob.close()
    report = live.stop()
    report.keys = False
    agree(report, [(IN, '', OPEN), (OUT, '', OPEN)])
    rows_agree(report, [(IN, '', OPEN), (OUT, '', OPEN)])
    partner_of(report, 'raw.example')
    equal(report.capture['files'][0]['format'], 'live', 'format')


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


def opens(frm, to='corp.example'):
    def deed(w, source):
        stream = Stream.dial(w.edge.external, source=source)
        stream.open(frm, to)
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
    ('dialback where it is switched off', 'nodialback.example', [(IN, 'dialback-error', OPEN)],
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


def failure(i, domain, expected):
    def look_at_it(w):
        everything_fails(w)
        pair = {source_of(w, i, domain), w.external}
        label = b''.join(bytes([len(x)]) + x.encode() for x in domain.split('.'))

        def keep(p):
            # a resolver may ask in any case
            asks = p.protocol == 17 and w.edge_dns.ip in (p.source, p.target) \
                and any(row == OUT for row, _, _ in expected) and label in p.frame.lower()
            return w.failures <= p.index < w.failures_end and (asks or {p.source, p.target} == pair)
        for report in both(w, save(w, 'failure-%d' % i, keep)):
            agree(report, expected + [(INNER, '', OPEN)])
            rows_agree(report, expected + [(INNER, '', OPEN)])
            trunk_is_mutual(report)
            for way, row in (('in', IN), ('out', OUT)):
                here = [e for e in expected if e[0] == row]
                if here and domain:
                    # of what ended before a stream header it is not known on whose behalf it was
                    equal(sum(p[way]['attempts'] for p in report.partners if p['theirs'] == domain),
                          len(here), 'attempts %s of\n%s' % (way, report.show()))
    return look_at_it


def intruder(i, cause, where):
    def look_at_it(w):
        everything_fails(w)
        pair = {w.lab.ip(200 + i), w.internal}
        path = save(w, 'intruder-%d' % i, lambda p: {p.source, p.target} == pair, trunk=False)
        for report in both(w, path):
            agree(report, [(INNER, cause, where)])
            rows_agree(report, [(INNER, cause, where)])
        for report in both(w, save(w, 'intruded-%d' % i, lambda p: {p.source, p.target} == pair)):
            agree(report, [(INNER, cause, where), (INNER, '', OPEN)])
            row_is(report, INNER, 'partly', 'conforms')
            trunk_is_mutual(report)
    return look_at_it


for i, (what, domain, attempts, _) in enumerate(FAILURES):
    function = failure(i, domain, attempts)
    function.sentence = 'the cause is named: ' + what
    tests.append(function)
for i, (what, cause, where, _) in enumerate(INTRUDERS, len(FAILURES)):
    function = intruder(i, cause, where)
    function.sentence = 'the cause is named: ' + what
    tests.append(function)


@test
def without_a_gateway_the_partner_side_works_and_23456_is_not_seen(w):
    w.lonely.start()
    since = w.recorder.mark()
    stream = trusted_call(w, w.lonely, source=w.raw.address[0])
    id = 'g%d' % next(ids)
    stream.send(message('x@raw.example', 'bob@corp.example', 'anybody there?', id=id))
    w.raw.wait_error(id)
    path = save_window(w, 'lonely', since, w.recorder.mark(), {w.lonely.external[0]}, trunk=False)
    stream.close()
    w.lonely.terminate()
    addresses = ['--external', w.lonely.external[0], '--internal', w.lonely.internal[0]]
    for report in both(w, path, addresses):
        agree(report, [(IN, '', OPEN), (OUT, '', OPEN)])
        row_is(report, INNER, 'not seen', 'cannot-tell')
    equal(look(w, path, '--require', '3', options=addresses).status, 4, 'exit status')
    equal(look(w, path, '--require', '1,2', options=addresses).status, 0, 'exit status')


def trunks_of(w, name, start):
    """A capture of the connections to 23456 that were opened meanwhile."""
    since = w.recorder.mark()
    start()
    return save_window(w, name, since, w.recorder.mark(), {w.internal}, trunk=False)


@test
def a_gateway_that_speaks_for_a_foreign_domain_is_refused(w):
    rogue = Gateway(w.lab, 'fe02', w.lab.ip(42), w.pki, [(w.edge.host,) + w.edge.internal],
                    [w.corp.s2s + (['elsewhere.example'], 'optional')], limits=LIMITS)

    def start():
        rogue.start()
        rogue.wait_log(None, why='peer-stream-error|domain-not-yours')
        rogue.terminate()
    path = trunks_of(w, 'rogue', start)
    for report in both(w, path):
        check(report.attempts, 'no attempt')
        agree(report, [(INNER, 'not-authorized', LATE)] * len(report.attempts))


@test
def an_edge_with_another_name_is_refused_by_the_gateway(w):
    doubter = Gateway(w.lab, 'fe02-doubter', w.lab.ip(43), w.pki,
                      [('edge99.corp.example',) + w.edge.internal], w.inner,
                      host='fe02.corp.example', limits=LIMITS)

    def start():
        doubter.start()
        doubter.wait_log(None, why='cert-name|name-denied')
        doubter.terminate()
    path = trunks_of(w, 'doubter', start)
    for report in both(w, path):
        check(report.attempts, 'no attempt')
        agree(report, [(INNER, 'cert-name', HIDDEN)] * len(report.attempts))


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))
    w.recorder.stop()
    note('%d packets, %d dropped' % (len(w.recorder.packets), w.recorder.dropped))
    equal(w.recorder.dropped, 0, 'packets that the recorder lost')


missing = need_programs('prosody', 'erl', 'dnsmasq', 'openssl')
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
