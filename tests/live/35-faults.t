#!/usr/bin/env python3
"""35-faults.t -- real Prosodys on both sides, XEP-0198 wherever it is spoken: what a fault costs.

    pa.example (Prosody) --EXTERNAL, XEP-0198-- edge <==> gateway --dialback-- corp.example (Prosody)

Each of many messages arrives, or its sender is told; none of them is lost in silence.
"""
import os
import signal
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, binary, have_binary, partner             # noqa: E402
from lab import Host, Lab, need_programs                               # noqa: E402
from tap import check, equal, note, run, skip_all, test                # noqa: E402
from xmpp import Client, kind                                          # noqa: E402

COUNT = 50


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside, inside = lab.resolver('outside', lab.ip(2)), lab.resolver('inside', lab.ip(4))
    outside.server('corp.example', lab.ip(21))
    outside.server('pa.example', lab.ip(61))
    inside.wildcard('example', lab.ip(41))
    for r in outside, inside:
        r.start()
    w.corp = lab.prosody('corp', lab.ip(51), inside, [Host('corp.example', users=['bob'])])
    w.pa = lab.prosody('pa', lab.ip(61), outside, [
        Host('pa.example', pki.public.issue('pa.example'), pki.public, secure=True, users=['alice'])])
    w.border = Border(lab, pki, outside, ['corp.example'],
                      [partner('pa.example', tls='required', sasl='required', dialback=False)],
                      [w.corp.s2s + (['corp.example'], 'optional')])
    w.border.start()
    lab.wait_ready(w.corp, w.pa)
    return w


def account(sender, receiver, sent, seconds):
    """How many of `sent` arrived, and how many came back, when each of them has or time is over."""
    def seen(client, what):
        return {s.get('id') for s in list(client.stream.inbox) if kind(s) == what}
    deadline = time.monotonic() + seconds
    while True:
        arrived = sent & (seen(receiver, 'message chat') if receiver else set())
        back = sent & seen(sender, 'message error')
        if arrived | back == sent or time.monotonic() > deadline:
            note('%d sent, %d arrived, %d came back, %d lost in silence, %d arrived and came back'
                 % (len(sent), len(arrived), len(back), len(sent - arrived - back), len(arrived & back)))
            return arrived, back
        time.sleep(0.05)


def send_many(sender, to, prefix, count, pause=0.0):
    ids = ['%s%d' % (prefix, n) for n in range(count)]
    for id in ids:
        sender.message(to, 'text of ' + id, id=id)
        time.sleep(pause)
    return set(ids)


@test
def both_sides_count_what_they_send(w):
    alice, bob = Client('alice@pa.example', w.pa), Client('bob@corp.example', w.corp)
    for a, b, prefix in ((alice, bob, 'in'), (bob, alice, 'out')):
        sent = send_many(a, b.jid, prefix, 5)
        arrived, _ = account(a, b, sent, 15)
        equal(arrived, sent, 'what arrived')
    with open(next(log for log in w.lab.logs if log.endswith('/pa/prosody.log'))) as f:
        equal(f.read().count('Enabling stream management'), 2, 'streams with XEP-0198')
    alice.close()
    bob.close()


@test
def an_edge_that_is_killed_loses_nothing_that_a_partner_with_xep_0198_has_sent(w):
    alice, bob = Client('alice@pa.example', w.pa), Client('bob@corp.example', w.corp)
    equal(len(account(alice, bob, send_many(alice, bob.jid, 'w', 1), 15)[0]), 1, 'the first message')
    sent = send_many(alice, bob.jid, 'x', 200, 0.001)
    w.border.edge.kill()
    sent |= send_many(alice, bob.jid, 'y', 50, 0.001)
    w.border.edge.start()
    arrived, back = account(alice, bob, sent, 30)
    equal(sent - arrived - back, set(), 'lost in silence')
    alice.close()
    bob.close()


@test
def a_partner_that_hangs_and_dies_costs_no_message_without_a_word(w):
    w.border.gateway.wait_trunk(w.border.edge, 30)
    alice, bob = Client('alice@pa.example', w.pa), Client('bob@corp.example', w.corp)
    equal(len(account(bob, alice, send_many(bob, alice.jid, 'v', 1), 15)[0]), 1, 'the first message')
    w.pa.processes[0].signal(signal.SIGSTOP)
    sent = send_many(bob, alice.jid, 'z', COUNT)
    time.sleep(1)
    w.pa.processes[0].signal(signal.SIGKILL)
    _, back = account(bob, None, sent, 20)
    equal(len(back), COUNT, 'senders that were told')
    w.border.edge.wait_log('undelivered', returned=str(COUNT))
    bob.close()


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


missing = need_programs('prosody', 'dnsmasq', 'openssl')
if missing:
    skip_all('not installed: ' + ' '.join(missing))
if not have_binary():
    skip_all('no program to test: ' + binary())
note('testing ' + binary())
run(setup)
