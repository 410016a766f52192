#!/usr/bin/env python3
"""30-no-loss.t -- nothing disappears: every stanza arrives, or its sender gets an error.

Two edges, two gateways; numbered messages flow between two partners and an inner server in four
directions at once.  In the middle a trunk is cut, an edge is stopped, a gateway is stopped (SIGTERM).
Afterwards each message is accounted for, and the order within each pair of domains is checked.  At the
end a gateway is killed (SIGKILL): what it held in memory may be lost and is counted, nothing else.

All servers are played by the test.  They behave: who is told </stream:stream> stops sending, answers it
and goes to the other edge or gateway.
"""
import os
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, binary, have_binary, partner                # noqa: E402
from lab import Lab, need_programs                                        # noqa: E402
from tap import check, note, run, skip_all, test                          # noqa: E402
from wire import Forwarder                                                # noqa: E402
from xmpp import Closed, Peer, Timeout, message                # noqa: E402

COUNT = int(os.environ.get('XMPPEDGE_FLOW', '1500'))    # messages of one flow in one test
PAUSE = 0.0006                                          # seconds between two of them
LIMITS = {'trunk-retry-first': '100ms', 'trunk-retry-max': '300ms', 'partner-retry-first': '100ms',
          'partner-retry-max': '300ms', 'hold-time': '5s', 'queue-stanzas': 20000, 'queue-bytes': '16M',
          'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000}


class World:
    pass


class Flow(threading.Thread):
    """Sends COUNT numbered messages from one domain to another, through whichever door is open."""

    def __init__(self, tally, peer, frm, to, doors):
        super().__init__(daemon=True)
        self.tally, self.peer, self.frm, self.to, self.doors = tally, peer, frm, to, list(doors)
        self.name = '%s>%s' % (frm, to)
        self.sent = 0
        self.streams = 0         # opened so far
        self.trouble = None
        self.stream = None

    def enter(self):
        """A stream through the first door that opens; another one each time."""
        deadline = time.monotonic() + 20
        while True:
            door = self.doors.pop(0)
            self.doors.append(door)
            try:
                stream = self.peer.dial(door, self.to, frm=self.frm)
                self.streams += 1
                return stream
            except (OSError, AssertionError, Closed) as e:
                if time.monotonic() > deadline:
                    raise Closed('no door opens: %s' % e)
                time.sleep(0.05)

    def run(self):
        try:
            self.stream = self.enter()
            while self.sent < COUNT:
                self.send_one()
                time.sleep(PAUSE)
        except (Closed, Timeout, AssertionError, OSError) as e:
            self.trouble = str(e)

    def send_one(self):
        if self.stream.ended:
            self.stream.close()          # answers </stream:stream>, so that all before it is read
            self.stream = self.enter()
        id = '%s>%s/%d#%d' % (self.frm, self.to, self.streams, self.sent)
        self.tally.expect(id)
        self.sent += 1
        try:
            self.stream.send(message('a@' + self.frm, 'b@' + self.to, 'x' * 60, id=id))
        except Closed:
            pass                         # it counts as sent: somebody must account for it

    def finish(self):
        if self.stream:
            self.stream.close()


class Tally:
    """Who sent what, what arrived and what came back."""

    def __init__(self):
        self.lock = threading.Lock()
        self.expected = set()
        self.arrived = {}                # id -> times
        self.bounced = {}                # id -> condition
        self.order = {}                  # pair and stream -> numbers in order of first arrival
        self.changed = time.monotonic()

    def expect(self, id):
        with self.lock:
            self.expected.add(id)

    def take(self, stanza):
        id = stanza.get('id', '')
        with self.lock:
            if id not in self.expected:
                return True              # left over from an earlier test
            self.changed = time.monotonic()
            if stanza.get('type') == 'error':
                self.bounced[id] = self.bounced.get(id, 0) + 1
                return True
            times = self.arrived[id] = self.arrived.get(id, 0) + 1
            if times == 1:
                pair, _, number = id.partition('#')
                self.order.setdefault(pair, []).append(int(number))
        return True

    def missing(self):
        with self.lock:
            return sorted(i for i in self.expected if i not in self.arrived and i not in self.bounced)

    def settle(self, quiet=7):
        """Until everything is accounted for, or nothing has come for longer than anything is held."""
        while self.missing() and time.monotonic() - self.changed < quiet:
            time.sleep(0.1)

    def report(self):
        missing = self.missing()
        twice = sum(1 for n in self.arrived.values() if n > 1)
        both = sum(1 for i in self.bounced if i in self.arrived)
        note('%d sent, %d arrived, %d came back, %d missing; %d arrived twice, %d arrived and came back'
             % (len(self.expected), len(self.arrived), len(self.bounced), len(missing), twice, both))
        return missing

    def check_order(self):
        """Within each stream of each pair.  Who goes on to another server has two paths himself, and
        nobody can put in order what he sends on both (RFC 6120 10.1)."""
        for pair, numbers in self.order.items():
            for a, b in zip(numbers, numbers[1:]):
                check(a < b, 'order of %s: %d arrived before %d' % (pair, a, b))


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    w.peers = {}
    for n, domain in ((61, 'pa.example'), (62, 'pb.example')):
        outside.server(domain, lab.ip(n))
        w.peers[domain] = Peer(lab, [domain], (lab.ip(n), 5269), cert=pki.public.issue(domain), ca=pki.public,
                               tls='required')
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner(d) for d in w.peers],
                      [w.corp.address + (['corp.example'], 'optional')], edges=2, gateways=2,
                      edge_limits=LIMITS, gateway_limits=LIMITS)
    for node in w.border.edges + w.border.gateways:
        node.level = 'info'              # thousands of messages at debug level would measure the disk
    # every path from a gateway to an edge can be cut
    w.paths = []
    for i, gateway in enumerate(w.border.gateways):
        for j, edge in enumerate(w.border.edges):
            path = Forwarder(lab, (lab.ip(180 + 2 * i + j), 23456), edge.internal)
            gateway.edges[j] = (edge.host,) + path.address
            path.ends = gateway, edge
            w.paths.append(path)
    w.border.start()
    return w


def flows(w, tally):
    edges = [e.external for e in w.border.edges]
    gateways = [g.listen for g in w.border.gateways]
    return [Flow(tally, w.peers['pa.example'], 'pa.example', 'corp.example', edges),
            Flow(tally, w.peers['pb.example'], 'pb.example', 'corp.example', edges[::-1]),
            Flow(tally, w.corp, 'corp.example', 'pa.example', gateways),
            Flow(tally, w.corp, 'corp.example', 'pb.example', gateways[::-1])]


def disturb(w, event):
    """Run all flows; let the event happen when half is sent; return what became of everything."""
    put_back(w)
    tally = Tally()
    for peer in list(w.peers.values()) + [w.corp]:
        peer.on_stanza = tally.take
    running = flows(w, tally)
    for f in running:
        f.start()
    while min(f.sent for f in running) < COUNT // 2 and not any(f.trouble for f in running):
        time.sleep(0.01)
    event()
    for f in running:
        f.join(60)
    tally.settle()
    for f in running:
        f.finish()
        check(not f.trouble, '%s: %s' % (f.name, f.trouble))
        check(f.sent == COUNT, '%s: only %d sent' % (f.name, f.sent))
    return tally


def all_accounted(w, event):
    tally = disturb(w, event)
    missing = tally.report()
    check(not missing, '%d messages vanished: %s ...' % (len(missing), ' '.join(missing[:12])))
    tally.check_order()
    return tally


def put_back(w):
    """Start again what was stopped and wait until all trunks stand."""
    stopped = [n for n in w.border.edges + w.border.gateways if not n.running()]
    w.border.forget_logs()
    for node in stopped:
        node.start()
    for path in w.paths:
        if path.ends[0] in stopped or path.ends[1] in stopped:
            path.ends[0].wait_trunk(path.ends[1])


@test
def undisturbed_everything_arrives_once_and_in_order(w):
    tally = all_accounted(w, lambda: None)
    check(not tally.bounced, '%d came back' % len(tally.bounced))
    check(all(n == 1 for n in tally.arrived.values()), 'something arrived twice')


def busiest(w, seconds=0.2):
    """The path on which most is going on just now."""
    before = [p.bytes for p in w.paths]
    time.sleep(seconds)
    return max(zip(w.paths, before), key=lambda pair: pair[0].bytes - pair[1])[0]


@test
def nothing_is_lost_when_a_trunk_is_cut(w):
    w.border.forget_logs()
    cut = []

    def event():
        cut.append(busiest(w))
        check(cut[0].cut() > 0, 'there was no trunk to cut')
    all_accounted(w, event)
    cut[0].ends[0].wait_trunk(cut[0].ends[1])


@test
def nothing_is_lost_when_all_trunks_are_cut_three_times(w):
    w.border.forget_logs()

    def event():
        for _ in range(3):
            for path in w.paths:
                path.cut()
            time.sleep(0.2)
    all_accounted(w, event)
    for path in w.paths:
        path.ends[0].wait_trunk(path.ends[1])


def stop(w, which):
    """SIGTERM for the gateway (0) or the edge (1) that has most to do."""
    stopped = []

    def event():
        node = busiest(w).ends[which]
        stopped.extend([node, node.terminate()])
    all_accounted(w, event)
    check(stopped[1] == 0, '%s ended with status %s' % (stopped[0].name, stopped[1]))


@test
def nothing_is_lost_when_an_edge_is_stopped(w):
    stop(w, 1)


@test
def nothing_is_lost_when_a_gateway_is_stopped(w):
    stop(w, 0)


@test
def a_killed_gateway_loses_only_what_it_held(w):
    killed = []

    def event():
        killed.append(busiest(w).ends[0])
        killed[0].kill()
    tally = disturb(w, event)
    missing = tally.report()
    tally.check_order()
    # what it had read and not passed on, and what was on its way to it: far less than a second's worth
    check(len(missing) < COUNT, '%d messages vanished with one gateway' % len(missing))
    check(len(tally.arrived) + len(tally.bounced) > 2 * COUNT, 'the other gateway did not take over')


@test
def edges_and_gateways_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


missing_programs = need_programs('dnsmasq', 'openssl')
if missing_programs:
    skip_all('not installed: ' + ' '.join(missing_programs))
if not have_binary():
    skip_all('no program to test: ' + binary())
note('testing ' + binary())
run(setup)
