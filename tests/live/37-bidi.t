#!/usr/bin/env python3
"""37-bidi.t -- real servers that use one connection for both directions (XEP-0288), whoever opens it.

    pa.example (Prosody) --> edge <== gateway --> corp.example (Prosody)

Connections are counted by the system: those of the edge's external address, and those with the inner server.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                              # noqa: E402
from lab import Host, Lab, read_text, self_signed                         # noqa: E402
from tap import check, equal, note, test                                  # noqa: E402
from xmpp import Client, converse                                         # noqa: E402

COUNT = 300         # stanzas each way in a burst


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    w.talks = 0         # each with users who do not know each other
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    inside = lab.resolver('inside', lab.ip(4))
    outside.server('corp.example', lab.ip(21))
    outside.server('pa.example', lab.ip(61))
    inside.wildcard('example', lab.ip(41))
    outside.start()
    inside.start()
    w.pa = lab.prosody('pa', lab.ip(61), outside, [
        Host('pa.example', pki.public.issue('pa.example'), pki.public, secure=True, users=['a%d' % n for n in range(3)])],
        modules=['s2s_bidi'])
    w.corp = lab.prosody('corp', lab.ip(51), inside, [
        Host('corp.example', self_signed(lab, 'corp.example'), pki.internal, users=['b%d' % n for n in range(3)])],
        modules=['s2s_bidi'])
    w.border = Border(lab, pki, outside, ['corp.example'],
                      [partner('pa.example', tls='required', sasl='required', dialback=False, bidi=True)],
                      [w.corp.s2s + (['corp.example'], 'optional', True)])
    w.border.start()
    lab.wait_ready(w.pa, w.corp)
    return w


def hexed(ip, port=None):
    text = '%02X%02X%02X%02X:' % tuple(reversed([int(n) for n in ip.split('.')]))
    return text if port is None else text + '%04X' % port


def established(*ends):
    """Connections with one of these beginnings of an address at either end, each counted once."""
    found = set()
    for line in read_text('/proc/net/tcp').splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if state == '01' and any(a.startswith(e) for a in (local, remote) for e in ends):
            found.add(frozenset((local, remote)))
    return len(found)


def partner_connections(w):
    """Those on the Internet's side of the edge: row 1 and row 2 of the port table."""
    return established(hexed(w.lab.ip(21)))


def streams(node, **wanted):
    return [s for s in node.status_json()['streams'] if all(s.get(k) == v for k, v in wanted.items())]


def burst(one, other):
    """Many stanzas both ways at once."""
    for n in range(COUNT):
        one.message(other.jid, 'there %d' % n)
        other.message(one.jid, 'back %d' % n)
    for n in range(COUNT):
        other.wait_message('there %d' % n)
        one.wait_message('back %d' % n)


def talk(w, first):
    """A conversation in which a user of this domain speaks first."""
    alice = Client('a%d@pa.example' % w.talks, w.pa)
    bob = Client('b%d@corp.example' % w.talks, w.corp)
    w.talks += 1
    one, other = (alice, bob) if first == 'pa.example' else (bob, alice)
    one.message(other.jid, 'I am first')
    other.wait_message('I am first')
    converse(one, other)
    burst(one, other)
    alice.close()
    bob.close()


@test
def what_a_partner_opens_carries_both_directions(w):
    talk(w, 'pa.example')
    equal(partner_connections(w), 1, 'connections of the external address')
    found = streams(w.border.edge, remote='pa.example')
    equal([(s['direction'], s.get('bidi'), s['method']) for s in found], [('in', 'true', 'sasl-external')], 'streams')
    check(found[0]['stanzas'] > 2 * COUNT, 'stanzas: %s' % found[0]['stanzas'])
    equal(w.border.edge.find_log('bounce'), [], 'what came back')


@test
def streams_with_the_inner_server_carry_both_directions(w):
    found = streams(w.border.gateway, remote='corp.example', bidi='true')
    check(found and sum(s['stanzas'] for s in found) > 2 * COUNT, 'streams: %s' % found)
    note('inner server: ' + ', '.join('%s %s %s stanzas' % (s['direction'], s['method'], s['stanzas']) for s in found))
    equal(w.border.gateway.find_log('bounce'), [], 'what came back')


def begin_anew(w, first):
    """All servers of the world forget each other."""
    for node in (w.border.gateway, w.border.edge):
        equal(node.terminate(), 0, node.name)
    w.border.start()
    w.border.forget_logs()
    talk(w, first)


@test
def what_we_open_carries_both_directions(w):
    begin_anew(w, 'corp.example')
    equal(partner_connections(w), 1, 'connections of the external address')
    found = streams(w.border.edge, remote='pa.example')
    equal([(s['direction'], s.get('bidi'), s['method']) for s in found], [('out', 'true', 'sasl-external')], 'streams')
    check(found[0]['stanzas'] > 2 * COUNT, 'stanzas: %s' % found[0]['stanzas'])
    equal(w.border.edge.find_log('bounce'), [], 'what came back')


@test
def without_the_setting_each_direction_has_its_own(w):
    w.border.edge.partners = [partner('pa.example', tls='required', sasl='required', dialback=False)]
    begin_anew(w, 'pa.example')
    equal(partner_connections(w), 2, 'connections of the external address')
    equal(sorted(s['direction'] for s in streams(w.border.edge, remote='pa.example')), ['in', 'out'], 'streams')


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'dnsmasq', 'openssl')
