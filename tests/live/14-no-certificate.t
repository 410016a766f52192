#!/usr/bin/env python3
"""14-no-certificate.t -- inner servers that offer TLS and cannot do it: Prosody and ejabberd without a certificate.

    partner server --5269--> edge <==23456== gateway --STARTTLS that fails, then without--> inner server
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                           # noqa: E402
from lab import Host, Lab                                              # noqa: E402
from scene import World                                                # noqa: E402
from tap import check, equal, test                                     # noqa: E402
from xmpp import Client, converse                                      # noqa: E402


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    for domain in ('corp.example', 'ejcorp.example'):
        outside.server(domain, lab.ip(21))
    outside.server('pa.example', lab.ip(61))
    outside.start()
    inside = lab.resolver('inside', lab.ip(4))
    inside.wildcard('example', lab.ip(41))
    inside.start()
    inside_ejabberd = lab.resolver('inside-ejabberd', lab.ip(5))
    inside_ejabberd.server('pa.example', lab.ip(41))
    w.partner = lab.prosody('pa', lab.ip(61), outside, [Host('pa.example', pki.public.issue('pa.example'), pki.public,
                                                             secure=True, users=('alice', 'anna'))])
    w.prosody = lab.prosody('corp', lab.ip(51), inside, [Host('corp.example', tls='broken', users=('bob',))])
    w.ejabberd = lab.ejabberd('ejcorp', lab.ip(52), inside_ejabberd, [Host('ejcorp.example', tls='broken')])
    w.border = Border(lab, pki, outside, ['corp.example', 'ejcorp.example'], [partner('pa.example')],
                      [w.prosody.s2s + (['corp.example'], 'optional'),
                       w.ejabberd.s2s + (['ejcorp.example'], 'optional')])
    w.border.start()
    lab.wait_ready(w.partner, w.prosody, w.ejabberd)
    return w


def reached_without_tls(w, one, other, server, domain, why):
    outside, inside = Client(one, w.partner), Client(other, server)
    converse(outside, inside)
    outside.close()
    inside.close()
    said = w.border.gateway.find_log('s2s-tls-given-up', remote=domain)
    equal([line.fields.get('why') for line in said], [why], 'that TLS was given up, with its reason, and once')
    check(w.border.gateway.find_log('s2s-out-open', remote=domain, tls='none'), 'no stream without TLS')


@test
def prosody_without_a_certificate(w):
    reached_without_tls(w, 'alice@pa.example', 'bob@corp.example', w.prosody, 'corp.example', 'tls-failed')


@test
def ejabberd_without_a_certificate(w):
    reached_without_tls(w, 'anna@pa.example', 'carol@ejcorp.example', w.ejabberd, 'ejcorp.example', 'tls-refused')


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'erl', 'dnsmasq', 'openssl')
