#!/usr/bin/env python3
"""62-truth.t -- what the analyzer names as the cause of every failure, without keys, with keys, with a log.

The failures of 60-analyze.t, each in a capture of its own, which is analysed three times: as it is; with the secrets
of TLS; as it is, beside the log of the edge.  With keys and with the log the cause is to be right.  Without
either it may be a coarser one, or not be seen where the stream had been in use; it may not be wrong.  The log has
no part in what is right: that stands in the table of failures, by hand.

The table of all that was said is printed at the end.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Pki                                                           # noqa: E402
from failing import FAILURES, INNER, INTRUDERS, OPEN                           # noqa: E402
from failing import begin, failure_path, fits, intruder_path, make_border, name_servers, start_border   # noqa: E402
from lab import Lab                                                            # noqa: E402
from record import KeyLogs, Recorder, analyze                                  # noqa: E402
from scene import World, make_partners                                         # noqa: E402
from tap import Skip, check, equal, note, test, tests                          # noqa: E402

NOWHERE = '-'       # in the table: there is no line, there was no run

# What the edge only noticed: the capture knows more.
NOTICED = ('peer-closed', 'attempt-timeout', 'setup-timeout', 'dialback-timeout', 'tls-failed')
# Its words that are none of the analyzer, or are about the call back of a dialback.
MEANS = {'partner-unlisted': 'policy-violation', 'tls-injection': 'policy-violation', 'stanza-endless': 'stanza-too-big',
         'header-too-big': 'policy-violation', 'limit-preauth-bytes': 'policy-violation',
         'dialback-off': 'no-auth-method', 'dns-not-found': 'dialback-unreachable', 'tcp-refused': 'dialback-unreachable'}


def setup():
    w = World()
    w.lab = lab = Lab()
    w.recorder = Recorder(lab)
    w.keys = KeyLogs(lab)
    if w.keys.missing:
        note('nothing is said about captures with keys: ' + w.keys.missing)
    w.pki = Pki(lab)
    name_servers(w)
    policies = make_partners(w)
    for resolver in (w.outside, w.inside, w.edge_dns):
        resolver.start()
    make_border(w, policies)
    lab.wait_ready(w.corp)
    start_border(w)
    w.table = []
    return w


# ---- one capture, three ways -------------------------------------------------------------------

def ways(w):
    """What each is called, its options, and whether it knows what is inside TLS."""
    yield 'without keys', [], False
    if not w.keys.missing:
        yield 'with keys', w.keys.options(), True
    yield 'with log', ['--log', w.edge.process.log], True


def of_expected(report, expected, way, knows):
    """The attempt of each of those that are expected, in their order; none is missing, and none is left."""
    left, found = list(report.attempts), []
    for e in expected:
        hit = [a for a in left if fits(a, e, knows)]
        check(hit, '%s: no attempt %s in\n%s' % (way, e, report.show()))
        left.remove(hit[0])
        found.append(hit[0])
    check(not left, '%s: more attempts than expected:\n%s' % (way, report.show()))
    return found


def named(attempt):
    """How the cause is told, and what it rests on."""
    rests = ' (log)' if attempt['cause_from_log'] else ' (inferred)' if attempt['cause_inferred'] else ''
    return (attempt['cause'] or attempt['outcome']) + rests


def ends(attempt):
    flow = attempt['of']
    return ['%s:%s' % (flow[side]['address'], flow[side]['port']) for side in ('initiator', 'responder')]


def logged(w, attempt):
    """The last reason that the edge itself gave for the end of this connection, before what it only noticed."""
    if attempt['of'] is None:
        return NOWHERE
    caller, called = ends(attempt)
    pairs = (caller, None), (called, None), (called, caller), (caller, called)
    words = [line.fields['why'] for line in w.edge.lines() if line.fields.get('why', 'none') != 'none'
             and (line.fields.get('peer'), line.fields.get('via')) in pairs]
    return (sorted(words, key=lambda word: word not in NOTICED) or [NOWHERE])[-1]


def three_ways(w, what, path, expected):
    told = {}
    for way, words, knows in ways(w):
        told[way] = of_expected(analyze(path, *w.options, *words), expected, way, knows)
    for i, (row, cause, where) in enumerate(expected):
        if not cause:
            continue
        w.table.append([what, row, logged(w, told['without keys'][i])] + [
            named(told[way][i]) if way in told else NOWHERE for way in ('without keys', 'with keys', 'with log')])
    return told


TRUNK = (INNER, '', OPEN)


def failure(i):
    def look_at_it(w):
        what, _, expected, _ = FAILURES[i]
        three_ways(w, what, failure_path(w, i), expected + [TRUNK])
    return look_at_it


def intruder(i):
    def look_at_it(w):
        what, cause, where, _ = INTRUDERS[i - len(FAILURES)]
        three_ways(w, what, intruder_path(w, i, trunk=True), [(INNER, cause, where), TRUNK])
    return look_at_it


for i, failing in enumerate(FAILURES + INTRUDERS):
    function = failure(i) if i < len(FAILURES) else intruder(i)
    function.sentence = 'the cause is right in each way: ' + failing[0]
    tests.append(function)


# ---- all of them -------------------------------------------------------------------------------

@test
def the_table_of_all_causes(w):
    if not w.table:
        raise Skip('no failure was chosen')
    heads = ['failure', 'row', 'log of the edge', 'without keys', 'with keys', 'with log']
    wide = [max(len(line[k]) for line in [heads] + w.table) for k in range(len(heads))]
    for line in [heads] + w.table:
        note(' | '.join(word.ljust(n) for word, n in zip(line, wide)).rstrip())
    wrong = [line for line in w.table if line[2] not in NOTICED + (NOWHERE,)
             and line[5].split()[0] not in (line[2], MEANS.get(line[2]))]
    equal(wrong, [], 'what the log says, and the report does not')


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))
    w.recorder.stop()
    equal(w.recorder.dropped, 0, 'packets that the recorder lost')


begin(setup, 'prosody', 'dnsmasq', 'openssl')
