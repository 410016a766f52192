#!/usr/bin/env python3
"""42-status.t -- who asks for the status of many streams, and does not read it, and whom that disturbs.
"""
import json
import os
import socket
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, binary, have_binary, partner                # noqa: E402
from lab import Lab, need_programs, wait_until                            # noqa: E402
from tap import check, equal, note, run, skip_all, test                   # noqa: E402
from xmpp import Peer, callers, message                                   # noqa: E402

MANY = 3000        # rows: half a megabyte, of which the system takes less than half
STAY = 10          # of them, until the end


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('pa.example', lab.ip(61))
    w.peer = Peer(lab, ['pa.example'], (lab.ip(61), 5269))
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'],
                      [partner('pa.example', tls='optional', sasl='not-supported', dialback=True)],
                      [w.corp.address + (['corp.example'], 'optional')],
                      edge_limits={'connections': 9000, 'source-connections': 9000, 'source-rate': 100000,
                                   'source-burst': 100000, 'partner-connections': 9000})
    w.border.start()
    w.edge = w.border.edge
    w.strangers = []
    # before the many: the peers of the tests look at descriptors below 1024
    w.stream = w.peer.dial(w.edge.external, 'corp.example', frm='pa.example')
    w.stream.send(message('a@pa.example', 'b@corp.example', 'first', id='f'))
    w.corp.wait_message('first')
    return w


def ask(w, question):
    s = socket.socket(socket.AF_UNIX)
    s.connect(w.edge.control())
    s.settimeout(20)
    s.sendall(question.encode() + b'\n')
    return s


def rest(s):
    """All that is still to come."""
    got = b''
    while True:
        more = s.recv(65536)
        if not more:
            s.close()
            return got.decode()
        got += more


def peers(status):
    return [row['peer'] for row in json.loads(status)['streams']]


@test
def many_streams_are_told_each_once(w):
    w.strangers += callers(w.edge.external, MANY)
    names = ['%s:%d' % s.getsockname() for s in w.strangers]
    wait_until(lambda: w.edge.status_json()['connections'] >= MANY + 1, 20, 'all streams')
    status, text = w.edge.command('status', w.edge.path)
    equal(status, 0, 'exit code')
    told = [p for p in peers(rest(ask(w, 'status json'))) if p.startswith('127.0.0.1:')]
    equal(sorted(told), sorted(names), 'peers')
    for name in names[::100]:
        equal(text.count('peer=%s ' % name), 1, 'rows of %s' % name)


@test
def who_does_not_read_his_answer_holds_up_nobody(w):
    w.slow = [ask(w, 'status json') for _ in range(3)]
    w.text = ask(w, 'status')
    for s in w.slow:
        equal(s.recv(1, socket.MSG_PEEK), b'{', 'its first byte')
    w.stream.send(message('a@pa.example', 'b@corp.example', 'nobody waits', id='m'))
    w.corp.wait_message('nobody waits')


@test
def an_answer_is_whole_although_streams_end_where_it_stands(w):
    for s in w.strangers[:-STAY]:
        s.close()
    left = w.strangers[-STAY:]
    wait_until(lambda: len(peers(rest(ask(w, 'status json')))) <= STAY + 2, 30, 'the end of the others')
    w.slow[0].close()      # and who asks may go
    for s in w.slow[1:]:
        told = peers(rest(s))
        equal(len(told), len(set(told)), 'rows and different ones')
        note('%d rows of %d' % (len(told), MANY))
        check(len(told) < MANY, 'all was told before they ended: the test shows nothing')
        equal([t for t in told if t in ['%s:%d' % l.getsockname() for l in left]],
              ['%s:%d' % l.getsockname() for l in left], 'those that stayed')
    check(rest(w.text).endswith('\nEND\n'), 'the text has no end')


@test
def what_is_wrong_and_what_to_do_stands_first(w):
    lines = w.edge.command('status', w.edge.path)[1].splitlines()
    equal(lines[2], 'ALL IS WELL', 'the first heading')
    w.border.gateway.terminate()
    wait_until(lambda: not w.edge.status_json()['healthy'], 10, 'the edge to miss its gateway')
    lines = w.edge.command('status', w.edge.path)[1].splitlines()
    equal(lines[2], 'WHAT IS WRONG', 'the first heading')
    wrong = lines[3:lines.index('', 3)]
    check(all(len(line) <= 80 for line in wrong), 'a line is too long for a terminal:\n' + '\n'.join(wrong))
    told = ' '.join(line.strip() for line in wrong)
    check(told.startswith('no gateway is connected') and 'what to do:' in told, 'it says: ' + told)
    equal([told], w.edge.status_json()['health'], 'the same for programs')
    w.border.gateway.start()
    wait_until(lambda: w.edge.status_json()['healthy'], 10, 'the gateway to be back')
    equal(w.edge.status_json()['health'], [], 'what is wrong then')


@test
def all_end_in_order(w):
    for s in w.strangers[-STAY:] + [w.stream]:
        s.close()
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
