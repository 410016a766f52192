#!/usr/bin/env python3
"""70-strangers.t -- what those can take from others who have proven nothing: connections.

Strangers come from many networks (every address of 127.0.0.0/8 is one here) and do as little as they can.  In
the middle of it somebody honest, whom the edge has never seen, must be served within a second.
"""
import os
import resource
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Pki, binary, have_binary, partner                        # noqa: E402
from lab import Lab, need_programs                                              # noqa: E402
from scene import call, trusted_call                                            # noqa: E402
from tap import check, equal, note, run, skip_all, test                         # noqa: E402
from xmpp import NS_DB, NS_STREAM, NS_TLS, Closed, Peer, Stream                 # noqa: E402

SOON = 1.0          # seconds: what an honest caller may wait
HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='%s' xmlns:db='%s' "
          "from='%s' to='corp.example' version='1.0'>")
WIDE = {'source-connections': 1000, 'source-rate': 1000, 'source-burst': 1000, 'drain-time': '200ms',
        'close-time': '200ms'}


class World:
    pass


def setup():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.dns = lab.resolver('outside', lab.ip(2))
    w.raw_cert = pki.public.issue('raw.example')
    w.policies = [partner('raw.example', tls='optional'), partner('db.example', tls='optional')]
    w.dns.server('db.example', lab.ip(62))
    w.db = Peer(lab, ['db.example'], (lab.ip(62), 5269))
    w.dns.start()
    w.cert = pki.public.issue('corp.example')
    w.count = 0
    return w


def new_edge(w, **limits):
    w.count += 1
    limits = dict(WIDE, **{k.replace('_', '-'): v for k, v in limits.items()})
    return Edge(w.lab, 'edge%02d' % w.count, w.lab.ip(21), w.lab.ip(31), w.pki, w.dns,
                {'corp.example': w.cert}, w.policies, limits=limits, level='info').start()


def network(n):
    """An address that nobody else has; each is a network of its own."""
    return '127.%d.%d.%d' % (50 + n // 62500, n // 250 % 250, n % 250 + 1)


def well(edge):
    check(edge.running(), edge.name + ' is dead:\n' + edge.log_text()[-2500:])
    check(not edge.sanitizer_report(), edge.sanitizer_report())
    equal(edge.terminate(), 0, 'exit status')


# ---- ways to keep a connection without proving anything ----------------------------------------

def header(frm='raw.example'):
    return (HEADER % (NS_STREAM, NS_DB, frm)).encode()


STARTTLS = ("<starttls xmlns='%s'/>" % NS_TLS).encode()
SILENCES = {
    'nothing': b'',
    'one byte': b'<',
    'half a header': header()[:80],
    'a header': header(),
    'a header and starttls': header() + STARTTLS,
    'direct TLS that stops': b'\x16\x03\x01\x02\x00\x01\x00',
    'a question that is not answered': header() + b"<db:result from='raw.example' to='corp.example'>00</db:result>",
}


def sit(edge, said, addresses):
    """One connection from each address; it says this, and then nothing."""
    seats = []
    for address in addresses:
        try:
            s = Stream.dial(edge.external, source=address)
            s.send(said)
            seats.append(s)
        except (OSError, Closed):
            pass
    return seats


def served_soon(w, edge, address, what):
    started = time.monotonic()
    s, _ = call(w, edge, source=address)
    took = time.monotonic() - started
    check(took < SOON, '%s: %.2f s until an honest caller is served' % (what, took))
    return s


@test
def a_thousand_silent_callers_make_room_at_once(w):
    edge = new_edge(w)
    seats = sit(edge, header(), [network(i % 40) for i in range(1000)])
    for i in range(20):
        served_soon(w, edge, network(100 + i), 'caller %d' % i)
    for s in seats:
        s.abort()
    well(edge)


@test
def whatever_silent_callers_have_said_they_make_room(w):
    edge = new_edge(w, connections=80)
    proven = [trusted_call(w, edge, source=network(5000)) for _ in range(3)]
    for what, said in SILENCES.items():
        for spread in (1, 8, 160):
            seats = sit(edge, said, [network(i % spread) for i in range(160)])
            time.sleep(0.3)
            for i in range(5):
                served_soon(w, edge, network(1000 + i), '%s, from %d networks' % (what, spread)).close()
            for s in seats:
                s.abort()
    equal([s for s in proven if s.ended], [], 'proven streams that were ended')
    well(edge)


@test
def callers_that_come_again_and_again_do_not_keep_others_out(w):
    edge = new_edge(w, connections=80)
    over = threading.Event()

    def flood(first):
        n = 0
        seats = []
        while not over.is_set():
            n += 1
            said = list(SILENCES.values())[n % len(SILENCES)]
            seats += sit(edge, said, [network(first + n % 10)])
            seats = seats[-30:]

    threads = [threading.Thread(target=flood, args=(2000 + 10 * i,)) for i in range(4)]
    for t in threads:
        t.start()
    try:
        time.sleep(1)
        for i in range(10):
            s = served_soon(w, edge, network(1000 + i), 'caller %d' % i)
            check(s.dialback(frm='db.example') == 'valid', 'dialback in the middle of the flood')
    finally:
        over.set()
        for t in threads:
            t.join()
    well(edge)


@test
def those_who_have_proven_something_are_never_ended_for_others(w):
    edge = new_edge(w, connections=16)      # 14 of them for callers
    proven = [trusted_call(w, edge, source=network(5000)) for _ in range(14)]
    for i in range(30):
        s = Stream.dial(edge.external, source=network(1000 + i))
        try:
            s.open('raw.example', 'corp.example')
        except Closed:
            pass
        equal(s.wait_end(5), 'resource-constraint', 'stream error')
    for s in proven:
        check(not s.ended, 'a proven stream was ended')
    edge.wait_log('connection-refused', why='limit-connections')
    well(edge)


@test
def one_network_that_fills_the_table_is_the_one_that_gives_way(w):
    edge = new_edge(w, connections=80)
    others = sit(edge, header(), [network(1000 + i) for i in range(20)])
    seats = sit(edge, header(), [network(1)] * 200)
    time.sleep(0.3)
    equal([s for s in others if s.ended], [], 'callers of other networks that were ended')
    for s in seats:
        s.abort()
    well(edge)


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
