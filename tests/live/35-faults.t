#!/usr/bin/env python3
"""35-faults.t -- real Prosodys on both sides, XEP-0198 wherever it is spoken: what a fault costs.

    pa.example (Prosody) --EXTERNAL, XEP-0198-- edge <==> gateway --dialback-- corp.example (Prosody)
    pa.example (Prosody) -------------EXTERNAL, XEP-0198---------------------- corp.example (Prosody)

Each of many messages arrives, or its sender is told; none of them is lost in silence.  What breaks beside a node
breaks beside the two that have none between them, too, and costs no more through us.

TIMES=5 in the environment: five times, and as long as the fault would really last.
"""
import os
import signal
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from chaos import TIMES, hole, lasting, sentence                       # noqa: E402
from edge import Border, Pki, begin, partner                           # noqa: E402
from lab import Host, Lab, Process                                     # noqa: E402
from tap import check, equal, note, test                               # noqa: E402
from xmpp import NS_PING, Client, kind                                 # noqa: E402

COUNT = 50


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = w.pki = Pki(lab)
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
    dns = lab.resolver('direct', lab.ip(6))
    hosts = [('pa.example', lab.ip(71)), ('corp.example', lab.ip(72))]
    for domain, ip in hosts:
        dns.server(domain, ip)
    dns.start()
    servers = [lab.prosody('direct-' + domain.split('.')[0], ip, dns, [
        Host(domain, pki.public.issue(domain), pki.public, secure=True, users=['alice', 'bob'])])
        for domain, ip in hosts]
    lab.wait_ready(w.corp, w.pa, *servers)
    w.ways = [Way('directly', servers[0], servers[1], [lab.ip(71), lab.ip(72)]),
              Way('through us', w.pa, w.corp, [lab.ip(61), lab.ip(21)])]
    return w


class Way:
    """Two servers; what is between them can be closed by the addresses that both listen on."""

    def __init__(self, name, pa, corp, link):
        self.name, self.servers, self.link = name, {'pa.example': pa, 'corp.example': corp}, link


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


# ---- beside direct federation ------------------------------------------------------------------

def started(lab, server):
    """The same program again, and wait for it."""
    server.processes[:] = [Process(lab, server.name, server.processes[0].popen.args)]
    lab.wait_ready(server)


class Questions:
    """Many pings from a user to the other server, and what became of them."""

    def __init__(self, client, to):
        self.client, self.to, self.asked = client, to, {}

    def ask(self):
        id = 'q%d' % len(self.asked)
        self.asked[id] = time.monotonic()
        self.client.send("<iq to='%s' type='get' id='%s'><ping xmlns='%s'/></iq>" % (self.to, id, NS_PING))

    def answers(self):
        return [s for s in list(self.client.stream.inbox) if s.get('id') in self.asked]

    def count(self):
        """Answered, refused, without an answer, answered twice, answered and refused."""
        answered = [s.get('id') for s in self.answers() if kind(s) == 'iq result']
        refused = [s.get('id') for s in self.answers() if kind(s) == 'iq error']
        return (len(answered), len(refused), len(set(self.asked) - set(answered + refused)),
                len(answered) - len(set(answered)), len(set(answered) & set(refused)))

    def settle(self, seconds):
        """Until all have an end, or nothing has come for so long."""
        silent, deadline = -1, 0
        while self.count()[2] and (self.count()[2] != silent or time.monotonic() < deadline):
            if self.count()[2] != silent:
                silent, deadline = self.count()[2], time.monotonic() + seconds
            time.sleep(0.05)


def fault(text, victim, breaks, mends, seconds):
    """breaks, mends: called with the lab, the way and the server of `victim`, with `seconds` between them; a user
    of the other server asks all the time."""
    def function(w):
        for _ in range(TIMES):
            beside(w, victim, breaks, mends, seconds)
    return sentence(text)(function)


def beside(w, victim, breaks, mends, seconds):
    asker = 'bob@corp.example' if victim == 'pa.example' else 'alice@pa.example'
    asking = [Questions(Client(asker, way.servers[asker.partition('@')[2]]), victim) for way in w.ways]
    for q in asking:
        q.ask()
        q.settle(15)
    begin = time.monotonic()
    todo = [(0.5, breaks), (0.5 + seconds, mends)]
    while todo or time.monotonic() - begin < seconds + 1.5:
        for q in asking:
            q.ask()
        if todo and time.monotonic() - begin > todo[0][0]:
            for way in w.ways:
                todo[0][1](w.lab, way, way.servers[victim])
            del todo[0]
        time.sleep(0.05)
    for q, way in zip(asking, w.ways):
        q.settle(lasting(6, 100))
        note('%-10s %d answered, %d refused, %d without an answer, %d answered twice, %d answered and refused'
             % ((way.name,) + q.count()))
        q.client.close()
    (_, refused, silent, _, _), (_, our_refused, our_silent, twice, _) = [q.count() for q in asking]
    # an inner server counts nothing (XEP-0198 needs a certificate): what it had when it died is lost
    check(our_silent <= silent or victim == 'corp.example' and breaks is dies, '%d without an answer' % our_silent)
    check(not our_refused or refused, '%d refused, and none directly' % our_refused)
    equal(twice, 0, 'answered twice')


def dies(lab, way, server):
    server.processes[0].signal(signal.SIGKILL)


def comes(lab, way, server):
    started(lab, server)


def hangs(lab, way, server):
    server.processes[0].signal(signal.SIGSTOP)


def goes_on(lab, way, server):
    server.processes[0].signal(signal.SIGCONT)


def hung_and_died(lab, way, server):
    dies(lab, way, server)
    time.sleep(0.2)
    started(lab, server)


def vanishes(lab, way, server):
    hole(way.link, way.name)


def appears(lab, way, server):
    hole([], way.name)


def appears_rebooted(lab, way, server):
    dies(lab, way, server)
    time.sleep(0.2)
    hole([], way.name)
    started(lab, server)


fault('an inner server that restarts costs no more than without us', 'corp.example', dies, comes, lasting(1, 3))
fault('a partner that restarts costs no more than without us', 'pa.example', dies, comes, lasting(1, 3))
fault('a partner that stands still costs no more than without us', 'pa.example', hangs, goes_on, lasting(1, 5))
fault('a partner that hangs, dies and restarts costs no more than without us', 'pa.example', hangs, hung_and_died,
      lasting(1, 5))
for duration in lasting((1,), (10, 20, 90)):
    fault('a network that is cut for %d s costs no more than without us' % duration, 'pa.example', vanishes, appears,
          duration)
    fault('a partner that reboots behind a network that is cut for %d s costs no more than without us' % duration,
          'pa.example', vanishes, appears_rebooted, duration)


@test
def nobody_waits_longer_than_five_seconds_when_edge_and_gateway_are_killed(w):
    w.border.gateway.wait_trunk(w.border.edge, 30)
    for node in (w.border.edge, w.border.gateway) * TIMES:
        alice, bob = Client('alice@pa.example', w.pa), Client('bob@corp.example', w.corp)
        asking = [Questions(alice, 'corp.example'), Questions(bob, 'pa.example')]
        for n in range(60):
            for q in asking:
                q.ask()
            if n == 20:
                node.kill()
            elif n == 30:
                node.start()
            time.sleep(0.05)
        for q in asking:
            q.settle(5)
            note('%s killed: %d answered, %d refused, %d without an answer within 5 s, %d answered twice, '
                 '%d answered and refused' % ((node.name,) + q.count()))
            # what an inner server says to a gateway, and is told, is kept by nobody but TCP
            silent = q.count()[2]
            check(silent == 0 or node is w.border.gateway, '%d without an answer' % silent)
        alice.close()
        bob.close()


@test
def a_burst_of_messages_arrives_whole_and_in_order_in_each_direction(w):
    count = lasting(3000, 60000)
    for way in w.ways:
        alice, bob = [Client(jid, way.servers[jid.partition('@')[2]]) for jid in ('alice@pa.example', 'bob@corp.example')]
        for one, other in ((alice, bob), (bob, alice)):
            account(one, other, send_many(one, other.jid, 'warm', 1), 15)   # who opens a stream keeps no order
            begin = time.monotonic()
            sent = send_many(one, other.jid, 'burst', count)
            arrived, back = account(one, other, sent, lasting(30, 200))
            note('%s in %.1f s' % (way.name, time.monotonic() - begin))
            equal((len(arrived), len(back)), (count, 0), 'arrived and came back')
            numbers = [int(s.get('id')[5:]) for s in other.stream.inbox if s.get('id') in sent]
            check(numbers == sorted(numbers), 'out of order')
            other.stream.inbox.clear()
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


begin(setup, 'prosody', 'dnsmasq', 'openssl')
