#!/usr/bin/env python3
"""10-matrix.t -- real partners, edge, gateway, real inner servers: who can talk to whom, and how.

    partner server --5269--> edge <==23456== gateway --> inner server

Every cell sends a message, a presence subscription and an iq with its answer, each way, and then looks
into the edge's log for how both directions were authenticated.

Partners:  CA-signed certificates (EXTERNAL), self-signed ones (dialback inside TLS), direct TLS
(XEP-0368), and no TLS at all (dialback over TCP, where the policy allows it).
Inner servers:  Prosody, ejabberd, jabberd2; each serves a domain of its own behind the same gateway.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                           # noqa: E402
from lab import DIRECT_PORT, Host, Lab, self_signed                    # noqa: E402
from tap import check, test, tests                                     # noqa: E402
from xmpp import Client, converse                                      # noqa: E402

# partner domain, what it is, method seen in, method seen out, TLS, settings in the edge's policy
PARTNERS = [
    ('pa.example', 'Prosody with a CA certificate', 'sasl-external', 'sasl-external', True,
     dict(tls='required', sasl='required', dialback=False)),
    ('ej.example', 'ejabberd with a CA certificate', 'sasl-external', 'sasl-external', True,
     dict(tls='required', sasl='required', dialback=False)),
    ('paself.example', 'Prosody with a self-signed certificate', 'tls-dialback', 'tls-dialback', True,
     dict(tls='required', sasl='optional', dialback=True)),
    # this ejabberd trusts our authority, so we may use EXTERNAL with it while it must use dialback
    ('ejself.example', 'ejabberd with a self-signed certificate', 'tls-dialback',
     'tls-dialback|sasl-external', True, dict(tls='required', sasl='optional', dialback=True)),
    ('direct.example', 'Prosody with direct TLS', 'sasl-external', 'sasl-external', True,
     dict(tls='required', sasl='required', dialback=False)),
    ('plain.example', 'Prosody without TLS, where TLS is optional', 'tcp-dialback', 'tcp-dialback', False,
     dict(tls='optional', sasl='optional', dialback=True)),
    ('notls.example', 'Prosody without TLS, where TLS is not supported', 'tcp-dialback', 'tcp-dialback',
     False, dict(tls='not-supported', sasl='not-supported', dialback=True)),
]
INNER = [('corp.example', 'Prosody'), ('ejcorp.example', 'ejabberd'), ('j2corp.example', 'jabberd2'),
         ('tlscorp.example', 'a Prosody that demands TLS')]

# these differ from the others on one side only: they need not meet everybody
ONLY_WITH = {'direct.example': ('corp.example', 'ejcorp.example'), 'notls.example': ('corp.example',),
             'plain.example': ('corp.example', 'j2corp.example')}
ONLY_INNER = {'tlscorp.example': ('pa.example', 'ej.example')}


class World:
    pass


def users(domain):
    """One user for each cell, so that every cell begins with empty rosters."""
    return ['u-%s' % d.split('.')[0] for d, *_ in PARTNERS + INNER if d != domain]


def resolvers(w, lab):
    """outside: the world.  direct: the same for servers that shall use direct TLS towards us.
    inside: what the inner servers see, every partner is the gateway."""
    w.outside = lab.resolver('outside', lab.ip(2))
    w.direct = lab.resolver('outside-direct', lab.ip(3))
    w.inside = lab.resolver('inside', lab.ip(4))
    for domain, _ in INNER:
        w.outside.server(domain, lab.ip(21))
        w.direct.server(domain, lab.ip(21), port=None, direct=5269)
    w.outside.server('pa.example', lab.ip(61))
    w.outside.server('paself.example', lab.ip(62))
    w.outside.server('direct.example', lab.ip(63), port=None, direct=DIRECT_PORT)
    for domain in ('plain.example', 'notls.example'):
        w.outside.server(domain, lab.ip(64))
    for domain in ('ej.example', 'ejself.example'):
        w.outside.server(domain, lab.ip(65))
    # Prosody and jabberd2 find the gateway by the wildcard; ejabberd needs records with addresses
    w.inside.wildcard('example', lab.ip(41))
    ejabberd_inside = lab.resolver('inside-ejabberd', lab.ip(5))
    for domain, *_ in PARTNERS:
        ejabberd_inside.server(domain, lab.ip(41))
    for r in (w.outside, w.direct, w.inside):
        r.start()
    w.inside_ejabberd = ejabberd_inside


def partner_servers(w, lab, pki):
    public = pki.public
    elsewhere = pki.unknown()       # the server with self-signed certificates does not know our authority
    servers = {}

    def prosody(name, n, dns, hosts, direct=False):
        server = lab.prosody(name, lab.ip(n), dns, hosts, direct=direct)
        for h in hosts:
            servers[h.domain] = server
    # ejabberd first: it takes longest to start
    ejabberd = lab.ejabberd('ej', lab.ip(65), w.outside, [
        Host('ej.example', public.issue('ej.example'), public),
        Host('ejself.example', self_signed(lab, 'ejself.example'), public)])
    servers['ej.example'] = servers['ejself.example'] = ejabberd
    prosody('pa', 61, w.outside, [Host('pa.example', public.issue('pa.example'), public, secure=True,
                                       users=users('pa.example'))])
    prosody('paself', 62, w.outside, [Host('paself.example', self_signed(lab, 'paself.example'), elsewhere,
                                           users=users('paself.example'))])
    prosody('direct', 63, w.direct, [Host('direct.example', public.issue('direct.example'), public,
                                          secure=True, users=users('direct.example'))], direct=True)
    prosody('plain', 64, w.outside, [Host(d, users=users(d)) for d in ('plain.example', 'notls.example')])
    return servers


def inner_servers(w, lab, pki):
    return {
        'ejcorp.example': lab.ejabberd('ejcorp', lab.ip(52), w.inside_ejabberd, [Host('ejcorp.example')]),
        'corp.example': lab.prosody('corp', lab.ip(51), w.inside, [
            Host('corp.example', users=users('corp.example'))]),
        'tlscorp.example': lab.prosody('tlscorp', lab.ip(54), w.inside, [
            Host('tlscorp.example', self_signed(lab, 'tlscorp.example'), pki.internal,
                 users=users('tlscorp.example'))]),
        'j2corp.example': lab.jabberd2('j2corp', lab.ip(53), w.inside,
                                       Host('j2corp.example', users=users('j2corp.example')))}


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    resolvers(w, lab)
    w.inner = inner_servers(w, lab, pki)
    w.partners = partner_servers(w, lab, pki)
    settings = [partner(domain, **policy) for domain, _, _, _, _, policy in PARTNERS]
    inner = [s.s2s + ([d], 'optional') for d, s in w.inner.items()]
    # all servers of this lab connect from 127.0.0.1
    many = {'source-connections': 1000, 'source-rate': 1000, 'source-burst': 1000}
    w.border = Border(lab, pki, w.outside, [d for d, _ in INNER], settings, inner, edge_limits=many,
                      gateway_limits=many)
    w.border.start()
    lab.wait_ready(*w.inner.values(), *w.partners.values())
    return w


def cell(domain, how_in, how_out, tls, inner):
    def talk(w):
        w.border.forget_logs()
        alice = Client('u-%s@%s' % (inner.split('.')[0], domain), w.partners[domain])
        bob = Client('u-%s@%s' % (domain.split('.')[0], inner), w.inner[inner])
        converse(alice, bob)
        alice.close()
        bob.close()
        for event, how in (('s2s-in-open', how_in), ('s2s-out-open', how_out)):
            line = w.border.edge.wait_log(event, local=inner, remote=domain)
            check(line.has(event, {'method': how}), 'authenticated otherwise: ' + line.text)
            check((line.fields.get('tls') != 'none') == tls, 'encryption: ' + line.text)
    return talk


for domain, what, how_in, how_out, tls, _ in PARTNERS:
    for inner, kind in INNER:
        if inner in ONLY_WITH.get(domain, (inner,)) and domain in ONLY_INNER.get(inner, (domain,)):
            function = cell(domain, how_in, how_out, tls, inner)
            function.sentence = 'a user of %s talks with one of %s behind the gateway' % (what, kind)
            tests.append(function)


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'erl', 'jabberd2-s2s', 'dnsmasq', 'openssl')
