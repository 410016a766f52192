#!/usr/bin/env python3
"""76-idn.t -- a partner whose domain is not ASCII: bücher.example, a real Prosody.

On streams it is written in Unicode, in DNS and certificates as xn--bcher-kva.example, in our configuration
either way.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                                   # noqa: E402
from lab import Host, Lab                                                      # noqa: E402
from tap import check, equal, test                                             # noqa: E402
from xmpp import Client, Peer, message                                         # noqa: E402

LIMITS = {'hold-time': '5s', 'close-time': '500ms', 'partner-retry-first': '100ms', 'partner-retry-max': '100ms',
          'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000,
          'trunk-retry-first': '100ms', 'trunk-retry-max': '300ms'}
UNICODE, ASCII = 'bücher.example', 'xn--bcher-kva.example'


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('corp.example', lab.ip(21))
    outside.server(ASCII, lab.ip(61))
    outside.start()
    w.prosody = lab.prosody('buecher', lab.ip(61), outside, [
        Host(UNICODE, pki.public.issue(ASCII), pki.public, users=('alice',))])
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner(UNICODE)],
                      [w.corp.address + (['corp.example'], 'optional')], edge_limits=LIMITS,
                      gateway_limits=LIMITS)
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.border.start()
    lab.wait_ready(w.prosody)
    w.alice = Client('alice@' + UNICODE, w.prosody)
    w.back = w.corp.dial(w.gateway.listen, UNICODE)
    return w


def talk(w, about):
    """A message each way."""
    w.alice.message('b@corp.example', 'in, ' + about)
    w.corp.wait_message('in, ' + about)
    w.back.send(message('b@corp.example', w.alice.jid, 'out, ' + about))
    w.alice.wait_message('out, ' + about)


def configure(w, policy):
    w.edge.partners = [policy]
    w.edge.write()
    w.edge.reload()
    w.edge.wait_log('reloaded')


def methods(w):
    """How the streams with it were proven; it has one name in the status."""
    streams = [s for s in w.edge.status_json()['streams'] if s.get('remote') == ASCII]
    check(streams, 'no stream with %s: %s' % (ASCII, w.edge.status()))
    return {s['method'] for s in streams}


@test
def it_talks_with_us_both_ways_by_its_certificate(w):
    talk(w, 'in Unicode')
    equal(methods(w), {'sasl-external'}, 'how it was proven')


@test
def it_may_be_written_in_ascii_in_the_configuration(w):
    configure(w, partner(ASCII))
    talk(w, 'in ASCII')


@test
def it_proves_itself_by_dialback(w):
    configure(w, partner('elsewhere.example'))      # ends the streams
    w.edge.wait_log('s2s-in-closed')
    configure(w, partner(UNICODE, trust=w.pki.unknown(), dialback=True))
    talk(w, 'by dialback')
    equal(methods(w), {'tls-dialback'}, 'how it was proven')


@test
def a_ping_may_name_it_either_way(w):
    for name in (UNICODE, ASCII):
        status, text = w.gateway.command('ping', w.gateway.path, name)
        check(status == 0, text)


begin(setup, 'dnsmasq', 'openssl', 'prosody')
