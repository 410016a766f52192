#!/usr/bin/env python3
"""52-handshakes.t -- the TLS handshakes of strangers: they wait for each other, and nobody waits for them.

Strangers have addresses of their own, 127.N.0.200 and up, and never say more than TLS.
"""
import os
import socket
import ssl
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                                    # noqa: E402
from lab import Lab                                                             # noqa: E402
from tap import check, equal, note, test                                        # noqa: E402
from xmpp import Peer, client_context, ids, message                             # noqa: E402

LIMITS = {'connect-time': '1s', 'attempt-time': '5s', 'trunk-retry-first': '100ms', 'trunk-retry-max': '300ms',
          'preauth-time': '20s', 'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000}
# a network may compute for 100 ms and then, in practice, never again
NARROW = dict(LIMITS, **{'handshake-threads': 1, 'handshakes': 4, 'source-cpu': 1, 'source-cpu-burst': 100})


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    w.cert = pki.public.issue('pa.example')
    outside.server('pa.example', lab.ip(61))
    w.pa = Peer(lab, ['pa.example'], (lab.ip(61), 5269), cert=w.cert, ca=pki.public, tls='optional')
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner('pa.example', tls='optional')],
                      [w.corp.address + (['corp.example'], 'optional')], edge_limits=NARROW,
                      gateway_limits=LIMITS)
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.border.start()
    w.context = client_context()
    w.next = 200
    return w


def stranger(w):
    w.next += 1
    return w.lab.ip(w.next)


def limits(w, **changed):
    """Other limits for the running edge."""
    w.edge.limits = dict(w.edge.limits, **{k.replace('_', '-'): v for k, v in changed.items()})
    w.edge.write()
    w.edge.reload()
    w.edge.wait_log('reloaded', 5)
    w.border.forget_logs()


def connect(w, source):
    s = socket.socket()
    s.bind((source, 0))
    s.settimeout(5)
    s.connect(w.edge.external)
    return s


def shake(w, source, seconds=5):
    """One handshake from there; the secured socket, or what came instead of it."""
    s = socket.socket()
    s.bind((source, 0))
    s.settimeout(seconds)
    try:
        s.connect(w.edge.external)
        return w.context.wrap_socket(s, server_hostname='corp.example')
    except OSError as e:
        s.close()
        return e


def is_served(w, source, seconds=5):
    got = shake(w, source, seconds)
    if isinstance(got, ssl.SSLSocket):
        got.close()
        return True
    return False


def use_up(w, source):
    """Handshakes from there until one is not answered."""
    for n in range(400):
        if not is_served(w, source, 1):
            return n
    raise AssertionError('400 handshakes of one address were served')


def all_is_well(w):
    for node in (w.edge, w.gateway):
        check(node.running(), node.name + ' is dead:\n' + node.log_text()[-2500:])
        check(not node.sanitizer_report(), node.sanitizer_report())
    s = w.pa.dial(w.edge.external, 'corp.example', cert=w.cert)
    text = 'well %d' % next(ids)
    s.send(message('a@pa.example', 'b@corp.example', text))
    w.corp.wait_message(text)
    s.close()
    w.border.forget_logs()


def task_times(w):
    """Processor time, in ticks, of the thread that moves stanzas and of all others."""
    pid = w.edge.process.popen.pid
    main, others = 0, 0
    for task in os.listdir('/proc/%d/task' % pid):
        with open('/proc/%d/task/%s/stat' % (pid, task)) as f:
            words = f.read().rsplit(')', 1)[1].split()
        ticks = int(words[11]) + int(words[12])
        main, others = (main + ticks, others) if int(task) == pid else (main, others + ticks)
    return main, others


def cost_of(w, handshakes):
    before = task_times(w)
    for n in range(handshakes):
        check(is_served(w, stranger(w) if n % 20 == 0 else w.lab.ip(w.next)), 'a handshake was not served')
    after = task_times(w)
    return after[0] - before[0], after[1] - before[1]


@test
def an_address_that_has_used_up_its_time_waits_and_another_is_served_at_once(w):
    greedy = stranger(w)
    note('%d handshakes were served' % use_up(w, greedy))
    check(is_served(w, stranger(w)), 'another address was not served')
    again = sum(is_served(w, greedy, 1) for _ in range(4))      # it pays back a millisecond each second
    check(again < 4, 'the first was served again, each time')
    all_is_well(w)


@test
def of_too_many_handshakes_that_wait_the_last_one_ends_with_a_reason(w):
    greedy = stranger(w)
    waiting = []
    for _ in range(10):         # it pays back a millisecond each second, and may be served for it
        use_up(w, greedy)
        for _ in range(4):
            waiting.append(connect(w, greedy))
            waiting[-1].sendall(b'\x16')
        time.sleep(0.3)
        got = shake(w, greedy)
        if 'internal error' in str(got):
            break
    check('internal error' in str(got), 'it ended otherwise: %r' % got)
    check('limit-handshakes' in w.edge.status(), 'the status does not tell:\n' + w.edge.status())
    check(is_served(w, stranger(w)), 'another address was not served')
    for s in waiting:
        s.close()
    all_is_well(w)


@test
def a_partner_is_served_while_the_queue_is_full_of_others(w):
    greedy = stranger(w)
    use_up(w, greedy)
    waiting = [connect(w, greedy) for _ in range(6)]
    for s in waiting:
        s.sendall(b'\x16')
    all_is_well(w)
    for s in waiting:
        s.close()


@test
def handshakes_are_computed_beside_the_thread_that_moves_stanzas(w):
    limits(w, source_cpu=1000, source_cpu_burst=1000000)
    main, others = cost_of(w, 200)
    note('200 handshakes: %d ticks of the thread of stanzas, %d of others' % (main, others))
    check(others > 2 * main, 'the thread of stanzas computes')


@test
def without_threads_the_one_thread_computes_and_all_else_is_the_same(w):
    limits(w, handshake_threads=0, source_cpu=1000, source_cpu_burst=1000000)
    use = cost_of(w, 100)
    equal(use[1], 0, 'ticks of other threads')
    limits(w, source_cpu=1, source_cpu_burst=100)
    greedy = stranger(w)
    use_up(w, greedy)
    check(is_served(w, stranger(w)), 'another address was not served')
    all_is_well(w)


def flood(w, stop, source):
    while not stop.is_set():
        is_served(w, source, 2)


def flooded(w, n=6):
    stop = threading.Event()
    threads = [threading.Thread(target=flood, args=(w, stop, stranger(w)), daemon=True) for _ in range(n)]
    for t in threads:
        t.start()
    return stop, threads


@test
def a_handshake_of_nothing_but_warnings_ends_with_a_reason(w):
    source = stranger(w)
    s = connect(w, source)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2    # in 1.3 a warning in the clear is no record
    tls = context.wrap_bio(incoming, outgoing, server_hostname='corp.example')
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    s.sendall(outgoing.read())
    ended = False
    try:
        for _ in range(60):                             # 10 KB of warnings (user_canceled) at a time
            s.sendall(b'\x15\x03\x03\x00\x02\x01\x5a' * 1500)
            time.sleep(0.02)
    except OSError:
        ended = True
    check(ended, 'the edge listens to 600 KB of warnings')
    w.edge.wait_log('s2s-in-closed', why='limit-tls-bytes')
    s.close()
    is_served(w, stranger(w))


@test
def a_reload_amid_handshakes_disturbs_nobody(w):
    limits(w, handshakes=500, source_cpu=1000, source_cpu_burst=1000000)
    s = w.pa.dial(w.edge.external, 'corp.example', cert=w.cert)
    stop, threads = flooded(w)
    for n in range(24):
        limits(w, handshake_threads=(3, 0, 1)[n % 3])
        text = 'reload %d' % n
        s.send(message('a@pa.example', 'b@corp.example', text))
        w.corp.wait_message(text)
    stop.set()
    for t in threads:
        t.join()
    s.close()
    all_is_well(w)


@test
def edge_and_gateway_end_in_order_amid_handshakes(w):
    limits(w, handshake_threads=2)
    stop, threads = flooded(w)
    time.sleep(0.5)
    trouble = w.border.stop()
    stop.set()
    for t in threads:
        t.join()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'dnsmasq', 'openssl')
