#!/usr/bin/env python3
"""80-trust.t -- who may vouch for whom: authorities and keys of single partners.

fab.example is a real Prosody whose certificate comes from an authority of its own; bank.example belongs
to the common authority; self.example has a self-signed certificate and key.example one of the common
authority, both with pinned keys.  None may use dialback.
"""
import hashlib
import os
import subprocess
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Edge, Pki, begin, partner                             # noqa: E402
from lab import Host, Lab, self_signed                                         # noqa: E402
from tap import check, equal, note, test                                       # noqa: E402
from xmpp import NS_TLS, Client, Peer, Stream                                   # noqa: E402
from xmpp import client_context, local, message, offers                        # noqa: E402

LIMITS = {'hold-time': '1s', 'close-time': '500ms', 'attempt-time': '3s', 'partner-retry-first': '100ms',
          'partner-retry-max': '100ms', 'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000,
          'trunk-retry-first': '100ms', 'trunk-retry-max': '300ms'}
STRICT = dict(tls='required', sasl='optional', dialback=False)
# what each domain believes: authorities and, for the pinned ones, the key that a certificate must have
OWN = {'bank.example': 'public', 'fab.example': 'fab', 'key.example': 'public', 'self.example': None}


class World:
    pass


def pin(cert):
    """What an administrator would copy: the hash of the certificate's public key."""
    der = subprocess.run(['openssl', 'pkey', '-in', cert.key, '-pubout', '-outform', 'der'], check=True,
                         stdout=subprocess.PIPE).stdout
    return 'sha256:' + hashlib.sha256(der).hexdigest()


def policies(w):
    return [partner('fab.example', 'chat.fab.example', trust=w.fab, **STRICT),
            partner('bank.example', **STRICT),
            partner('self.example', pin=w.pins['self.example'], **STRICT),
            partner('key.example', pin=w.pins['key.example'], **STRICT),
            partner('narrow.example', 'wide.example', trust=w.narrow, **STRICT)]


def setup():
    w = World()
    w.calls = 0
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.fab = lab.authority('fab')
    w.narrow = lab.authority('narrow', 'nameConstraints=critical,permitted;DNS:narrow.example')
    outside = lab.resolver('outside', lab.ip(2))
    w.certs = {'bank.example': pki.public.issue('bank.example'), 'fab.example': w.fab.issue('fab.example'),
               'self.example': self_signed(lab, 'self.example'), 'key.example': pki.public.issue('key.example')}
    w.pins = {domain: pin(cert) for domain, cert in w.certs.items()}
    w.peers = {}
    outside.server('corp.example', lab.ip(21))
    for n, domain in enumerate(OWN, 61):
        outside.server(domain, lab.ip(n))
        if domain != 'fab.example':
            w.peers[domain] = Peer(lab, [domain], (lab.ip(n), 5269), cert=w.certs[domain], ca=pki.public,
                                   tls='required')
    outside.start()
    w.prosody = lab.prosody('fab', lab.ip(62), outside, [
        Host('fab.example', w.certs['fab.example'], pki.public, secure=True, users=('alice',))])
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'], policies(w),
                      [w.corp.address + (['corp.example'], 'optional')], edge_limits=LIMITS,
                      gateway_limits=LIMITS)
    w.edge = w.border.edge
    w.border.start()
    lab.wait_ready(w.prosody)
    w.back = {d: w.corp.dial(w.border.gateway.listen, d) for d in OWN}
    return w


def secure(w, frm, cert, direct):
    """A stream inside TLS; its features, or the error with which the edge has ended it."""
    w.calls += 1            # from everywhere, so that no line of the log is left out
    s = Stream.dial(w.edge.external, source=w.lab.ip(100 + w.calls % 100))
    if not direct:
        s.open(frm, 'corp.example')
        s.features()
        s.send("<starttls xmlns='%s'/>" % NS_TLS)
        s.wait('proceed')
    s.handshake(client_context(cert), sni='corp.example')
    s.open(frm, 'corp.example')
    return s, s.wait(lambda e: local(e) in ('features', 'error'), what='features, or an error')


def speaks_for(w, frm, cert, direct=False, claim=None):
    """Whether SASL EXTERNAL is offered and succeeds.  claim: the authorization identity."""
    s, features = secure(w, frm, cert, direct)
    try:
        if not offers(features, 'EXTERNAL'):
            equal(local(features), 'error', 'who cannot prove himself is not kept waiting:')
            return False
        return local(s.external(claim)) == 'success'
    finally:
        s.close()


def send_out(w, domain, text):
    w.back[domain].send(message('b@corp.example', 'a@' + domain, text, id=text))


def reload(w):
    w.edge.write()
    w.edge.reload()
    w.edge.wait_log('reloaded')


@test
def a_prosody_with_an_authority_of_its_own_talks_with_us_both_ways(w):
    alice = Client('alice@fab.example', w.prosody)
    alice.message('b@corp.example', 'in')
    w.corp.wait_message('in')
    send_out(w, 'fab.example', 'never')      # nobody of that name: Prosody answers
    w.back['fab.example'].send(message('b@corp.example', alice.jid, 'out'))
    alice.wait_message('out')
    alice.close()
    for event in ('s2s-in-open', 's2s-out-open'):
        line = w.edge.wait_log(event, remote='fab.example')
        equal(line.fields['method'], 'sasl-external', 'method')
        equal(line.fields['cert'], 'good', 'certificate')
    streams = [s for s in w.edge.status_json()['streams'] if s.get('remote') == 'fab.example']
    equal({s['certificate'] for s in streams}, {'good'}, 'what status says of the certificate')


@test
def each_authority_speaks_for_its_partner_and_for_no_other(w):
    """Who signed, whose name is in it, in whose name it comes, on which way and with which claim."""
    authorities = {'public': w.pki.public, 'fab': w.fab, 'stranger': w.pki.unknown()}
    tried = wrong = 0
    for name, authority in authorities.items():
        certs = {names: authority.issue(*names) for names in
                 [(d,) for d in OWN] + [('fab.example', 'bank.example'), ('chat.fab.example', '*.example')]}
        for names, cert in certs.items():
            for frm in list(OWN) + ['chat.fab.example']:
                own = 'fab' if frm == 'chat.fab.example' else OWN[frm]
                # a pinned key is never one of these
                right = frm in names and own == name and frm not in ('key.example', 'self.example')
                for direct in (False, True):
                    tried += 1
                    if speaks_for(w, frm, cert, direct) != right:
                        wrong += 1
                        note('%s signed %s: %s for %s' % (name, names, 'refused' if right else 'speaks', frm))
    for frm, claim in (('fab.example', 'bank.example'), ('bank.example', 'fab.example')):
        for direct in (False, True):
            tried += 1
            wrong += speaks_for(w, frm, authorities['fab'].issue('fab.example', 'bank.example'), direct, claim)
    note('%d ways tried' % tried)
    equal(wrong, 0, 'certificates that were judged wrongly')
    check(w.edge.find_log('s2s-in-closed', claims='fab.example', why='cert-untrusted-for-partner'),
          'the log does not say that another authority is the one of fab.example')
    check(w.edge.find_log('s2s-in-closed', claims='bank.example', why='cert-untrusted'),
          'the log does not say that the authority of fab.example is none of bank.example')


@test
def dialback_on_a_stream_of_the_partner_does_not_prove_a_domain_of_another(w):
    cert = w.fab.issue('fab.example', 'bank.example', 'chat.fab.example')
    s, features = secure(w, 'fab.example', cert, True)
    equal(local(s.external()), 'success', 'EXTERNAL')
    equal(s.dialback(frm='bank.example'), 'error', 'bank.example by the certificate of fab.example')
    s.close()


@test
def a_server_that_is_dialled_must_be_vouched_for_by_the_right_authority(w):
    for domain, cert, why in (('bank.example', w.fab.issue('bank.example'), 'cert-untrusted'),
                              ('key.example', w.pki.public.issue('key.example'), 'cert-pin-mismatch'),
                              ('self.example', self_signed(w.lab, 'self.example.again'), 'cert-pin-mismatch')):
        peer = w.peers[domain]
        peer.cert = cert
        w.edge.forget_log()
        send_out(w, domain, 'to whom? ' + domain)
        equal(w.corp.wait_error('to whom? ' + domain).condition, 'remote-server-timeout', 'bounce')
        w.edge.wait_log('s2s-out-closed', remote=domain, why=why)
        check(not peer.stanzas, 'the message went to somebody else')
        peer.cert = w.certs[domain]


@test
def a_pinned_key_is_accepted_both_ways_and_no_other_key(w):
    time.sleep(0.3)         # partner-retry-max, after what failed before
    for domain in ('self.example', 'key.example'):
        check(speaks_for(w, domain, w.certs[domain]), domain + ' is refused')
        check(speaks_for(w, domain, w.certs[domain], direct=True), domain + ' is refused on direct TLS')
        send_out(w, domain, 'pinned ' + domain)
        w.peers[domain].wait_message('pinned ' + domain)
    w.edge.forget_log()
    changed = self_signed(w.lab, 'self.example')    # in the same files: the server, too, shows it now
    check(not speaks_for(w, 'self.example', changed), 'another key is accepted')
    line = w.edge.wait_log('s2s-in-closed', claims='self.example', why='cert-pin-mismatch')
    check(line.fields['detail'].startswith('its key is sha256:'), 'the log does not say which key: ' + line.text)
    # what the log says is what the administrator may copy, beside the old one
    w.edge.partners[2] = partner('self.example', pin=w.pins['self.example'] + ' '
                                 + line.fields['detail'].split()[-1], **STRICT)
    reload(w)
    check(speaks_for(w, 'self.example', changed), 'the key that was pinned as well is refused')


@test
def a_reload_ends_the_streams_that_a_trust_no_longer_proves_and_no_other(w):
    for s in w.back.values():
        check(not s.ended, 'a stream of the inner server has ended')
    bank = w.peers['bank.example'].dial(w.edge.external, 'corp.example', method='external')
    fab, features = secure(w, 'fab.example', w.certs['fab.example'], True)
    equal(local(fab.external()), 'success', 'EXTERNAL')
    w.edge.forget_log()
    reload(w)
    check(fab.quiet(0.3), 'a reload that changes nothing is noticed')
    w.edge.partners[0] = partner('fab.example', **STRICT)
    w.edge.forget_log()
    reload(w)
    equal(fab.wait_end(), 'reset', 'the stream error')
    w.edge.wait_log('s2s-(in|out)-closed', remote='fab.example', why='trust-changed')
    check(not speaks_for(w, 'fab.example', w.certs['fab.example']), 'its old authority still vouches for it')
    check(speaks_for(w, 'fab.example', w.pki.public.issue('fab.example')), 'the common one does not')
    bank.send(message('a@bank.example', 'b@corp.example', 'undisturbed'))
    w.corp.wait_message('undisturbed')
    bank.close()


@test
def a_critical_name_constraint_of_a_trusted_authority_is_obeyed_in_a_handshake(w):
    for direct in (False, True):
        check(speaks_for(w, 'narrow.example', w.narrow.issue('narrow.example'), direct), 'narrow.example is not believed')
        w.edge.forget_log()
        check(not speaks_for(w, 'wide.example', w.narrow.issue('wide.example'), direct), 'wide.example is believed')
        w.edge.wait_log(None, why='cert-name-constraints')


@test
def an_own_chain_with_a_critical_name_constraint_is_loaded_and_warned_of(w):
    cert = w.narrow.issue('narrow.example')
    with open(cert.chain, 'a') as out, open(w.narrow.crt) as authority:
        out.write(authority.read())
    edge = Edge(w.lab, 'narrow', w.lab.ip(22), w.lab.ip(32), w.pki, w.edge.resolver, {'narrow.example': cert})
    edge.write()
    status, said = edge.command('check', edge.path)
    equal(status, 0, 'exit status of check')
    check(cert.chain + ': a name constraint in this chain is critical' in said, said)


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'dnsmasq', 'openssl')
