#!/usr/bin/env python3
"""44-explain.t -- `xmppedge explain`: one partner, listed or not, seen from the edge in both directions.

Good partners are real Prosodys; those with a defect are played by the test, each with one of its own.
Whatever is found out, nothing may be left behind: no stanza, no pair, no counter, no connection.
"""
import json
import os
import socket
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Gateway, Pki, begin, partner                            # noqa: E402
from lab import DIRECT_PORT, Host, Lab, wait_until                                          # noqa: E402
from scene import LIMITS, World, make_partners, trusted_call                   # noqa: E402
from tap import check, equal, test, tests                                      # noqa: E402
from xmpp import Peer                                                          # noqa: E402


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.outside = lab.resolver('outside', lab.ip(2))
    w.outside.server('corp.example', lab.ip(21))
    policies = make_partners(w)
    good = pki.public.issue('good.example')
    w.good = lab.prosody('good', lab.ip(60), w.outside, [Host('good.example', good, pki.public)], direct=True)
    w.outside.server('good.example', lab.ip(60), direct=DIRECT_PORT)
    picky = pki.public.issue('picky.example')
    w.picky = lab.prosody('picky', lab.ip(62), w.outside, [Host('picky.example', picky, pki.unknown(), secure=True)])
    w.outside.server('picky.example', lab.ip(62))
    policies.append(partner('picky.example'))
    policies.append(partner('good.example', description='a partner that is well'))
    w.outside.server('stranger.example', lab.ip(70))
    Peer(lab, ['stranger.example'], (lab.ip(70), 5269), cert=pki.public.issue('stranger.example'),
         ca=pki.public, tls='required')
    w.outside.server('doubtful.example', lab.ip(71))
    Peer(lab, ['doubtful.example'], (lab.ip(71), 5269), cert=w.bad['selfsigned.example'], ca=pki.public,
         tls='required')
    policies.append(partner('doubtful.example'))
    # every record of it is wrong in a way of its own, but for the last
    w.outside.srv('odd.example', 'port.odd.example', 0)
    w.outside.srv('odd.example', '192.0.2.1', 5269)
    w.outside.srv('odd.example', 'inside.odd.example', 5269, priority=1)
    w.outside.srv('odd.example', 'smtp.odd.example', 25, priority=2)
    w.outside.srv('odd.example', 'nowhere.odd.example', 5269, priority=3)
    w.outside.srv('odd.example', 'xmpp.good.example', 5269, priority=4)
    w.outside.address('inside.odd.example', '10.0.0.7')
    w.outside.address('smtp.odd.example', lab.ip(60))
    policies.append(partner('odd.example'))
    w.outside.start()
    w.edge = Edge(lab, 'edge01', lab.ip(21), lab.ip(31), pki, w.outside,
                  {d: pki.public.issue(d) for d in ('corp.example', 'second.example')}, policies, limits=LIMITS)
    w.edge.start()
    w.gateway = Gateway(lab, 'fe01', lab.ip(41), pki, [(w.edge.host,) + w.edge.internal],
                        [(lab.ip(51), 5269, ['corp.example'], 'optional')], limits=LIMITS).start()
    w.gateway.wait_trunk(w.edge)
    lab.wait_ready(w.good, w.picky)
    return w


def explain(w, domain, *options, expect=None):
    status, said = w.edge.command('explain', w.edge.path, domain, *options, seconds=130)
    if expect is not None:
        equal(status, expect, said)
    return said


def holds(said, *words):
    flat = ' '.join(said.split())
    for word in words:
        check(word in flat, 'no %r in:\n%s' % (word, said))


def remembered(w):
    """What an edge knows and counts, without what the clock alone changes."""
    known = w.edge.status_json()
    for pair in known['pairs']:
        del pair['idle_seconds']
    return {key: known[key] for key in ('connections', 'stanzas', 'bounces', 'queued_bytes', 'streams',
                                        'pairs', 'ends', 'returned')}


# ---- partners that are well --------------------------------------------------------------------

@test
def all_is_well_with_a_real_server_on_both_of_its_ports(w):
    said = explain(w, 'good.example', expect=0)
    holds(said, 'listed yes, as good.example (federated): a partner that is well', 'row 7 of 18 (valid)',
          '_xmpp-server 1 record', '_xmpps-server 1 record', '2 addresses to try',
          'offers STARTTLS (required), dialback', 'TLSv1.', 'CN=good.example, signed by',
          'names good.example', 'verdict good for good.example', 'TLS from the first byte',
          'they take our certificate: behind it they offer SASL EXTERNAL',
          'corp.example leads to us: %s:5269' % w.edge.external[0],
          'CN=corp.example, until', 'for corp.example good')
    equal(said.count('good: stanzas would go by SASL EXTERNAL'), 2, 'good addresses')
    check(said.endswith('\nEND: all is well\n'), said[-200:])


@test
def a_report_fits_a_terminal(w):
    for domain in ('good.example', 'odd.example', 'untrusted.example', 'stranger.example'):
        said = explain(w, domain)
        wide = [line for line in said.splitlines() if len(line) > 80]
        equal(wide, [], 'lines that are too long')
        check(not any(line.endswith(' ') for line in said.splitlines()), 'blanks at an end:\n' + said)


@test
def a_program_gets_one_object(w):
    told = json.loads(explain(w, 'good.example', '--json', expect=0))
    equal(told['domain'], 'good.example')
    equal(told['well'], True)
    equal(sorted(a['tls_begins'] for a in told['addresses']), ['at once', 'with STARTTLS'])
    equal(sorted(told['dns']['records']), ['_xmpp-server 0 5 5269 xmpp.good.example',
                                           '_xmpps-server 0 5 5270 xmpp.good.example'])
    check(told['addresses'][0]['certificates'][0].startswith('CN=good.example'), told['addresses'][0])
    check(told['what_to_do'].startswith('Nothing'), told['what_to_do'])
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'xmppedge.c')) as f:
        source = f.read()
    start = source.index('Keys of the object,')
    documented = source[start:source.index('Costs:', start)].replace(',', ' ').split()
    for part in [told] + told['addresses'] + [told[key] for key in ('policy', 'dns', 'inward')]:
        equal([key for key in part if key not in documented], [], 'keys that are not documented')
    told = json.loads(explain(w, 'expired.example', '--json', expect=1))
    check(told['addresses'][0]['result'].startswith('cert-expired: '), told['addresses'])
    equal(told['well'], False)


@test
def it_is_asked_for_another_domain_of_ours(w):
    holds(explain(w, 'good.example', '--as', 'second.example', expect=1), 'CN=second.example',
          'Publish SRV records _xmpp-server._tcp for second.example: others do not find us (dns-not-found).')
    for online in ([], ['--offline']):
        status, said = w.edge.command('explain', w.edge.path, 'good.example', '--as', 'other.example', *online, seconds=130)
        check(status == 1 and 'failed: what stands behind --as is no domain of ours' in said, said)


@test
def nothing_is_left_behind(w):
    before, calls = remembered(w), len(w.raw.streams)
    for domain in ('good.example', 'raw.example', 'stranger.example', 'closed.example', 'silent.example',
                   'expired.example'):
        explain(w, domain)
    equal(remembered(w), before, 'what the edge knows')
    [look] = w.raw.streams[calls:]
    wait_until(lambda: look.ended, 5, 'its end')
    equal(look.ended, 'close', 'how it ended')
    heard = bytes(look.raw_in)
    for word in (b'<auth', b'db:result', b'db:verify', b'<message', b'<presence', b'<iq', b'<bidi', b'<enable'):
        check(word not in heard, '%r was sent: %r' % (word, heard))
    check(heard.rstrip().endswith(b'</stream:stream>'), heard)


@test
def the_same_is_seen_without_the_running_service(w):
    said = explain(w, 'good.example', '--offline', expect=0)
    holds(said, 'good: stanzas would go by SASL EXTERNAL', 'not known: the running service was not asked')
    holds(explain(w, 'expired.example', '--offline', expect=1), 'result cert-expired')
    check(not [line for line in said.splitlines() if ' INFO ' in line], 'a line of a log:\n' + said)


# ---- partners that are not ---------------------------------------------------------------------

@test
def one_can_ask_about_a_partner_before_listing_him(w):
    holds(explain(w, 'stranger.example', expect=1), 'partner-unlisted', 'by the settings of the default partner',
          'verdict good for stranger.example', 'List it with <partner domain="stranger.example"/>',
          'its server can be reached', 'Nothing: their side is as it should be.')


@test
def each_record_that_is_of_no_use_says_why(w):
    holds(explain(w, 'odd.example', expect=1), '_xmpp-server 6 records',
          '0 port.odd.example is not used: port 0 is none',
          '192.0.2.1 is not used: the target is an address: it must be a name',
          'nowhere.odd.example has no address',
          'ADDRESS 10.0.0.7:5269 (inside.odd.example) result address-refused',
          '(private)', ':25 (smtp.odd.example) result port-refused',
          'host-unknown: This host does not serve odd.example')


FAULTS = [
    ('shows an expired certificate', 'expired.example', 'cert-expired', 'renew the certificate'),
    ('shows a certificate for another name', 'wrongname.example', 'cert-name', 'names the domain itself'),
    ('shows a certificate of an unknown authority', 'untrusted.example', 'cert-untrusted',
     'an intermediate one may be missing'),
    ('shows a self-signed certificate', 'selfsigned.example', 'cert-untrusted', 'signed by itself'),
    ('has no TLS although it is required', 'notls.example', 'tls-not-offered', 'offers STARTTLS'),
    ('is silent', 'silent.example', 'attempt-timeout', 'it waited in vain for its stream header'),
    ('refuses the connection', 'closed.example', 'tcp-refused', 'listens there'),
    ('does not answer the connection', 'deaf.example', 'tcp-timeout', 'a firewall in front of it'),
    ('does not exist in DNS', 'nxdomain.example', 'dns-not-found', 'nxdomain.example has no address'),
    ('says that there is no service', 'noservice.example', 'dns-no-service', 'decidedly no such service'),
    ('is not known because the resolver fails', 'nodns.example', 'dns-failed', 'no answer of use: '),
]


def faulty(domain, why, words):
    def look(w):
        said = explain(w, domain, expect=1)
        holds(said, 'result %s: ' % why, words)
        letter = said[said.index('TO THEIR ADMINISTRATOR'):]
        holds(letter, '(%s). It calls from %s. Please ' % (why, w.edge.external[0]))
        holds(said[said.index('WHAT TO DO'):said.index('TO THEIR')], why)
    return look


for what, domain, why, words in FAULTS:
    function = faulty(domain, why, words)
    function.sentence = 'of a partner that %s it says so, and what to do' % what
    tests.append(function)


@test
def a_partner_that_only_dialback_proves_is_well_and_in_doubt(w):
    holds(explain(w, 'doubtful.example', expect=0), 'result good: stanzas would go by dialback over TLS',
          'It works, by dialback alone: its certificate proves nothing (cert-untrusted).',
          'talks to yours for doubtful.example by dialback alone')


@test
def a_real_server_that_does_not_believe_us_is_found_out(w):
    holds(explain(w, 'picky.example', expect=0), 'offers in TLS dialback ours they offer no SASL EXTERNAL',
          'they take it it seems not', 'Ask them whether they trust the authority of our certificate',
          'whether your server trusts the authority that signs ours.')


# ---- the other direction, and who asks -----------------------------------------------------------

@test
def it_tells_who_is_here_and_how_the_last_call_ended(w):
    s = trusted_call(w)
    holds(explain(w, 'raw.example', expect=0), 'is here from %s' % s.sock.getsockname()[0], 'by sasl-external')
    s.close()
    wait_until(lambda: not [x for x in w.edge.status_json()['streams'] if x['direction'] == 'in'], 10,
               'the end of the call')
    holds(explain(w, 'raw.example', expect=0), 'proven', 'the last call in its name from', 'peer-closed')


@test
def a_domain_of_ours_is_not_explained(w):
    check('failed: this is a domain of ours: ping it' in explain(w, 'corp.example', expect=1), 'said otherwise')


@test
def who_asks_and_goes_leaves_nothing(w):
    before = remembered(w)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(w.edge.control())
        s.sendall(b'explain silent.example\n')
        while b'tcp ' not in s.recv(4096):
            pass
    explain(w, 'good.example', expect=0)
    equal(remembered(w), before, 'what the edge knows')


@test
def a_reload_in_the_middle_changes_what_comes_behind_it(w):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(w.edge.control())
        s.sendall(b'explain silent.example\n')
        said = b''
        while b'tcp ' not in said:
            said += s.recv(4096)
        w.edge.domains['corp.example'] = w.bad['expired.example']
        w.edge.write()
        w.edge.reload()
        w.edge.wait_log('reloaded')
        piece = said
        while piece:
            piece = s.recv(4096)
            said += piece
    holds(said.decode(), 'it waited in vain for its stream header', 'for corp.example cert-')
    check(said.endswith(b'\nEND: something is wrong\n'), said.decode()[-200:])


@test
def a_node_that_is_not_well_says_so_whatever_the_partner_is(w):
    w.gateway.terminate()
    wait_until(lambda: not w.edge.status_json()['healthy'], 10, 'the edge to miss its gateway')
    holds(explain(w, 'good.example', expect=1), 'THIS NODE is not well no gateway is connected',
          'Mend first what stands above', 'Their server can be reached.')
    told = json.loads(explain(w, 'good.example', '--json', expect=1))
    equal(told['well'], False)
    check(told['this_node'][0].startswith('no gateway is connected'), told['this_node'])


@test
def a_service_that_ends_in_the_middle_ends(w):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(w.edge.control())
        s.sendall(b'explain silent.example\n')
        while b'tcp ' not in s.recv(4096):
            pass
        equal(w.edge.terminate(), 0, 'exit status')
    check(not w.edge.sanitizer_report(), w.edge.sanitizer_report())


if __name__ == '__main__':
    begin(setup, 'dnsmasq', 'openssl', 'prosody')
