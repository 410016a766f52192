#!/usr/bin/env python3
"""35-chaos.t -- whatever breaks, each stanza arrives, or its sender is told.

Numbered stanzas between two partners and two inner servers through two edges and two gateways, in all eight
directions at once, while something breaks: see chaos.py.  One partner speaks XEP-0198, the other servers do
not; what dies with such a server is counted and printed.

Each row once and briefly; TIMES=5 runs each five times, and as long as the fault would really last.
"""
import os
import signal
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from chaos import EDGE, GATEWAY, Rig                                      # noqa: E402
from edge import binary, have_binary                                      # noqa: E402
from lab import Lab, need_programs                                        # noqa: E402
from tap import check, equal, note, run, skip_all, tests                  # noqa: E402

TIMES = int(os.environ.get('TIMES', '1'))


class World:
    pass


def setup():
    w = World()
    w.lab = Lab()
    w.rig = Rig(w.lab)
    return w


def lasting(brief, real):
    """Seconds of a fault: as long as it really lasts only when there is time for it."""
    return real if TIMES > 1 else brief


def row(sentence, judged=None, **words):
    """A fault as a test.  judged: what may happen besides loss; words: of Rig.row()."""
    def declare(event):
        def function(w):
            for _ in range(TIMES):
                w.rig.row(lambda: event(w.rig), **words).judge(**(judged or {}))
        function.sentence = sentence
        tests.append(function)
        return event
    return declare


def check_sentence(sentence):
    def declare(function):
        function.sentence = sentence
        tests.append(function)
        return function
    return declare


@row('undisturbed everything arrives once and in order')
def nothing(rig):
    pass


@row('undisturbed bursts arrive once and in order', burst=40, pause=0.5)
def bursts(rig):
    pass


# ---- a node dies, ends or hangs ----------------------------------------------------------------

def again(rig, nodes, how, pause=0.5):
    for node in nodes:
        how(node)
    time.sleep(pause)
    for node in nodes:
        node.start()


def killed(node):
    node.kill()


def terminated(node):
    equal(node.terminate(), 0, 'status of ' + node.name)


@row('nothing that somebody keeps is lost when an edge is killed', dead=['edge'])
def kill_edge(rig):
    again(rig, [rig.busiest().ends[EDGE]], killed)


@row('nothing that somebody keeps is lost when a gateway is killed', dead=['gateway'])
def kill_gateway(rig):
    again(rig, [rig.busiest().ends[GATEWAY]], killed)


@row('nothing is lost when an edge is stopped')
def stop_edge(rig):
    again(rig, [rig.busiest().ends[EDGE]], terminated)


@row('nothing is lost when a gateway is stopped')
def stop_gateway(rig):
    again(rig, [rig.busiest().ends[GATEWAY]], terminated)


@row('nothing is lost when an edge is stopped among bursts', burst=40, pause=0.5)
def stop_edge_burst(rig):
    again(rig, [rig.busiest(0.6).ends[EDGE]], terminated)


def frozen(rig, what, seconds):
    what.signal(signal.SIGSTOP)
    time.sleep(seconds)
    what.signal(signal.SIGCONT)


@row('nothing is lost when an edge stands still')
def freeze_edge(rig):
    frozen(rig, rig.busiest().ends[EDGE].process, lasting(1, 5))


@row('nothing is lost when a gateway stands still')
def freeze_gateway(rig):
    frozen(rig, rig.busiest().ends[GATEWAY].process, lasting(1, 5))


# ---- the trunk ---------------------------------------------------------------------------------

@row('nothing is lost when a trunk is reset', dict(twice=True))
def cut(rig):
    rig.busiest().cut()


@row('nothing is lost when all trunks are reset three times', dict(twice=True))
def cut_all(rig):
    for _ in range(3):
        for path in rig.paths:
            path.cut()
        time.sleep(0.3)


# ---- a server resets, leaves, hangs or dies ----------------------------------------------------

def told(rig, domain, command, times=3, **words):
    for _ in range(times):
        rig.stations[domain].tell(command, **words)
        time.sleep(0.3)


@row('nothing is lost when a partner that counts resets what it receives', dict(back=True))
def reset_counting(rig):
    told(rig, 'pa.example', 'reset')


@row('what a partner that does not count resets is all that is lost', dict(back=True), dead=['pb.example'])
def reset_partner(rig):
    told(rig, 'pb.example', 'reset')


@row('what an inner server resets is all that is lost', dict(back=True), dead=['in1.example'])
def reset_inner(rig):
    told(rig, 'in1.example', 'reset')


@row('nothing else is lost when partner and inner server break off in the middle of a stanza')
def tear(rig):
    for how in 'reset', 'eof':
        for domain in 'pa.example', 'pb.example', 'in1.example':
            told(rig, domain, 'tear', 1, how=how)


@row('nothing is lost when servers end streams politely, over and over')
def polite(rig):
    for _ in range(5):
        for domain in 'pa.example', 'pb.example', 'in1.example':
            told(rig, domain, 'close', 1)


@row('nothing is lost when a partner that counts hangs, dies and comes again', dict(back=True), dead=['pa.example'])
def hang_counting(rig):
    station = rig.stations['pa.example']
    station.signal(signal.SIGSTOP)
    time.sleep(lasting(0.5, 5))
    station.kill()
    time.sleep(1)
    station.start()


@row('nothing is lost when an inner server is deaf for a while', size=4000)
def deaf_inner(rig):
    frozen(rig, rig.stations['in1.example'], lasting(1, 30))


@row('nothing is lost when a partner is deaf for a while', size=4000)
def deaf_partner(rig):
    frozen(rig, rig.stations['pa.example'], lasting(1, 30))


@check_sentence('the nodes end in order')
def ends(w):
    trouble = w.rig.border.stop()
    check(not trouble, '\n'.join(trouble))


missing = need_programs('dnsmasq', 'openssl')
if missing:
    skip_all('not installed: ' + ' '.join(missing))
if not have_binary():
    skip_all('no program to test: ' + binary())
note('testing ' + binary())
run(setup)
