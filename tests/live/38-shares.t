#!/usr/bin/env python3
"""38-shares.t -- one edge, in strange hands, does not cut off the partners of another from the inner servers.

Two edges, one gateway that may hold 16 connections.  Partners and the inner server are played by the test.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, binary, have_binary, partner                # noqa: E402
from lab import Lab, need_programs                                        # noqa: E402
from tap import check, equal, note, run, skip_all, test                   # noqa: E402
from xmpp import Peer, message                                            # noqa: E402

MANY = ['d%02d.example' % n for n in range(14)]


class World:
    pass


def setup():
    w = World()
    w.streams = []
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    for domain in MANY + ['honest.example']:
        outside.server(domain, lab.ip(61))
    w.peer = Peer(lab, MANY + ['honest.example'], (lab.ip(61), 5269))
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    policies = [partner(d, tls='optional', sasl='not-supported', dialback=True)
                for d in MANY + ['honest.example']]
    w.border = Border(lab, pki, outside, ['corp.example'], policies,
                      [w.corp.address + (['corp.example'], 'optional')], edges=2,
                      gateway_limits={'connections': 16})
    w.border.start()
    return w


def write(w, edge, domain):
    """A message of this domain by this edge."""
    s = w.peer.dial(edge.external, 'corp.example', frm=domain)
    w.streams.append(s)
    s.send(message('a@' + domain, 'b@corp.example', domain, id=domain))


@test
def an_edge_that_brings_many_pairs_has_its_share_of_a_gateways_connections(w):
    first, second = w.border.edges
    for domain in MANY[:8]:
        write(w, first, domain)
        w.corp.wait_message(domain)
    write(w, first, MANY[8])
    equal(w.peer.wait_error(MANY[8]).condition, 'resource-constraint', 'what comes back of the ninth')
    w.border.gateway.wait_log('bounce', why='limit-connections')


@test
def and_another_edge_its_own(w):
    write(w, w.border.edges[1], 'honest.example')
    w.corp.wait_message('honest.example')
    note('%d connections to the inner server' % len([s for s in w.corp.streams if not s.ended]))


@test
def all_end_in_order(w):
    for s in w.streams:
        s.close()
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
