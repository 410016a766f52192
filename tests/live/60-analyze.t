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

from edge import Edge, Gateway, Pki, partner                                   # noqa: E402
from failing import FAILURES, HIDDEN, INNER, INTRUDERS, IN, LATE, NAME, OPEN   # noqa: E402
from failing import OTHER, OUT, begin, begins, causes_of, ends_of, failure_path, fits   # noqa: E402
from failing import intruder_path, make_border, name_servers, outcome_of, save   # noqa: E402
from failing import start_border                                               # noqa: E402
from lab import DIRECT_PORT, Host, Lab, self_signed                            # noqa: E402
from record import KeyLogs, Live, Recorder, analyze                            # noqa: E402
from scene import LIMITS, STRICT, World, make_partners, trusted_call           # noqa: E402
from tap import Skip, check, equal, note, test, tests                          # noqa: E402
from xmpp import Client, converse, ids, message                                # noqa: E402

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

def partner_names(w, lab):
    w.direct = lab.resolver('outside-direct', lab.ip(3))
    w.direct.server('corp.example', lab.ip(21), port=None, direct=5269)
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
    name_servers(w)
    partner_names(w, lab)
    policies = make_partners(w) + [partner(domain, **policy) for domain, _, _, policy in CELLS]
    for resolver in (w.outside, w.direct, w.inside, w.edge_dns):
        resolver.start()
    partner_servers(w, lab, pki)
    make_border(w, policies)
    w.lonely = Edge(lab, 'edge02', lab.ip(22), lab.ip(32), pki, w.edge_dns, w.edge.domains,
                    policies, limits=w.limits)
    lab.wait_ready(w.corp, *w.servers.values())
    start_border(w)
    return w


# ---- captures ----------------------------------------------------------------------------------

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

def failure(i, domain, expected):
    def look_at_it(w):
        for report in both(w, failure_path(w, i)):
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
        for report in both(w, intruder_path(w, i, trunk=False)):
            agree(report, [(INNER, cause, where)])
            rows_agree(report, [(INNER, cause, where)])
        for report in both(w, intruder_path(w, i, trunk=True)):
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


begin(setup, 'prosody', 'erl', 'dnsmasq', 'openssl')
