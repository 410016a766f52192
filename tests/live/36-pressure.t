#!/usr/bin/env python3
"""36-pressure.t -- a slow server slows its own senders down, through both nodes, and nobody else.

One edge, one gateway.  Two partners and an inner server, all played by the test; who is slow sleeps
between two stanzas of one pair.  Messages are large, so that what the system's buffers hold is little.
"""
import os
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, binary, have_binary, partner                # noqa: E402
from lab import Lab, need_programs                                        # noqa: E402
from tap import check, equal, note, run, skip_all, test                   # noqa: E402
from xmpp import Peer, domain_of, message                                 # noqa: E402

COUNT = 6000         # messages of a sender who knows no measure, 2 KB each
SLOW = 0.0008        # seconds that a slow server needs for one
DIALBACK = dict(tls='optional', sasl='not-supported', dialback=True)


class World:
    pass


class Taker:
    """What arrives at a server: in which order, and what came back.  Slow for one sender's domain."""

    def __init__(self, peer, slow_for=None):
        self.slow_for = slow_for
        self.numbers = {}                # domain of the sender -> numbers
        self.errors = 0
        self.changed = time.monotonic()
        peer.on_stanza = self.take

    def take(self, stanza):
        self.changed = time.monotonic()
        if stanza.get('type') == 'error':
            self.errors += 1
            return True
        frm = domain_of(stanza.get('from'))
        self.numbers.setdefault(frm, []).append(int(stanza.get('id')))
        if frm == self.slow_for:
            time.sleep(SLOW)
        return True

    def wait(self, frm, count):
        while len(self.numbers.get(frm, [])) < count and time.monotonic() - self.changed < 10:
            time.sleep(0.02)
        return self.numbers.get(frm, [])


class Flood(threading.Thread):
    """Sends COUNT messages as fast as they are taken."""

    def __init__(self, stream, frm, to):
        super().__init__(daemon=True)
        self.stream, self.frm, self.to, self.sent = stream, frm, to, 0

    def run(self):
        for n in range(COUNT):
            self.stream.send(message('a@' + self.frm, 'b@' + self.to, 'x' * 2000, id=str(n)))
            self.sent = n + 1


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    w.peers = {}
    for n, domain in ((61, 'pa.example'), (62, 'pb.example')):
        outside.server(domain, lab.ip(n))
        w.peers[domain] = Peer(lab, [domain], (lab.ip(n), 5269))
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner(d, **DIALBACK) for d in w.peers],
                      [w.corp.address + (['corp.example'], 'optional')])
    w.edge, w.gateway = w.border.edges[0], w.border.gateways[0]
    for node in w.edge, w.gateway:
        node.level = 'info'
    w.border.start()
    return w


def flood(w, sender, frm, to, door, receiver, beside=lambda f, taker: None):
    """All of a flood arrives, once, in order; nothing comes back; no node holds more than it may."""
    taker = Taker(receiver, slow_for=frm)
    back = Taker(sender)
    f = Flood(sender.dial(door, to, frm=frm), frm, to)
    held = [0]

    def look():
        while not done.is_set():
            held.append(max(node.status_json()['queued_bytes'] for node in (w.edge, w.gateway)))
            done.wait(0.05)
    done = threading.Event()
    threading.Thread(target=look, daemon=True).start()
    f.start()
    beside(f, taker)
    f.join()
    numbers = taker.wait(frm, COUNT)
    done.set()
    most = max(held)
    f.stream.close()
    note('%d sent, %d arrived, %d came back; a node held at most %d bytes'
         % (f.sent, len(numbers), back.errors, most))
    equal(back.errors, 0, 'messages that came back')
    equal(numbers, list(range(COUNT)), 'what arrived')
    check(most <= 1 << 20, 'a node held %d bytes of one pair' % most)
    check(most >= 256 << 10, 'the queue was never half full: nothing was tried')


@test
def a_slow_inner_server_slows_the_partner_down_and_nothing_comes_back(w):
    flood(w, w.peers['pa.example'], 'pa.example', 'corp.example', w.edge.external, w.corp)


@test
def a_slow_partner_slows_the_inner_server_down_and_nothing_comes_back(w):
    flood(w, w.corp, 'corp.example', 'pa.example', w.gateway.listen, w.peers['pa.example'])


@test
def no_pair_is_slowed_for_another(w):
    def beside(f, taker):
        other = w.peers['pb.example'].dial(w.edge.external, 'corp.example', frm='pb.example')
        while f.sent < COUNT // 3:
            time.sleep(0.01)
        for n in range(50):
            other.send(message('a@pb.example', 'b@corp.example', 'y', id=str(n)))
            taker.wait('pb.example', n + 1)
        passed = len(taker.numbers['pa.example'])
        note('50 questions of another partner went by while %d of the flood still waited'
             % (COUNT - passed))
        equal(taker.numbers['pb.example'], list(range(50)), 'what arrived of the other')
        check(passed < COUNT - 1000, 'the flood was over')
        other.close()
    flood(w, w.peers['pa.example'], 'pa.example', 'corp.example', w.edge.external, w.corp, beside)


@test
def the_nodes_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


missing_programs = need_programs('dnsmasq', 'openssl')
if missing_programs:
    skip_all('not installed: ' + ' '.join(missing_programs))
if not have_binary():
    skip_all('no program to test: ' + binary())
note('testing ' + binary())
run(setup)
