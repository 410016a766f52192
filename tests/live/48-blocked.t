#!/usr/bin/env python3
"""48-blocked.t -- `xmppedge block` and `unblock` at a running edge, with a partner who keeps coming."""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                                    # noqa: E402
from lab import Lab, wait_until                                                # noqa: E402
from scene import World                                                        # noqa: E402
from tap import check, equal, test                                             # noqa: E402
from xmpp import Closed, Peer, message                                         # noqa: E402

BLOCKS = 256        # ROUTE_BLOCKS_MAX


def setup():
    w = World()
    w.lab = lab = Lab()
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('pa.example', lab.ip(61))
    outside.server('pb.example', lab.ip(62))
    w.pa = Peer(lab, ['pa.example'], (lab.ip(61), 5269))
    w.pb = Peer(lab, ['pb.example'], (lab.ip(62), 5269))
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, Pki(lab), outside, ['corp.example'],
                      [partner(name, tls='optional', sasl='not-supported', dialback=True)
                       for name in ('pa.example', 'pb.example')],
                      [w.corp.address + (['corp.example'], 'optional')])
    w.border.start()
    w.edge = w.border.edge
    w.out = w.corp.dial(w.border.gateway.listen, 'pa.example', frm='corp.example')
    return w


def order(w, *words, expect=0):
    status, said = w.edge.command(words[0], w.edge.path, *words[1:])
    equal(status, expect, said)
    return said


def dial(w, peer=None):
    return (peer or w.pa).dial(w.edge.external, 'corp.example')


def crosses(w, stream, text):
    stream.send(message('a@pa.example', 'b@corp.example', text))
    w.corp.wait_message(text)
    w.out.send(message('b@corp.example', 'a@pa.example', text + ' back'))
    w.pa.wait_message(text + ' back')


def refused(w):
    try:
        dial(w)
    except (Closed, AssertionError):
        return True
    return False


@test
def streams_of_a_blocked_domain_end_and_others_stay(w):
    first = dial(w)
    other = dial(w, w.pb)
    crosses(w, first, 'before')
    w.edge.forget_log()
    equal(order(w, 'block', 'pa.example'), 'ok: blocked until it is unblocked\n')
    first.wait_end()
    w.edge.wait_log('s2s-in-closed', remote='pa.example', why='blocked')
    w.edge.wait_log('s2s-out-closed', remote='pa.example', why='blocked')
    check(refused(w), 'a blocked domain comes in')
    other.send(message('a@pb.example', 'b@corp.example', 'still here'))
    w.corp.wait_message('still here')


@test
def what_is_for_it_comes_back_and_says_why(w):
    order(w, 'block', 'pa.example')
    w.out.send(message('b@corp.example', 'a@pa.example', 'too late', id='late'))
    error = w.corp.wait_error('late')
    equal((error.condition, error.text), ('not-allowed', 'federation with this domain is blocked for now'))


@test
def status_says_so_and_a_reload_keeps_it(w):
    order(w, 'block', 'pa.example')
    w.edge.forget_log()
    w.edge.reload()
    w.edge.wait_log('reloaded')
    check('BLOCKED' in w.edge.status() and 'until it is unblocked' in w.edge.status(), w.edge.status())
    equal(w.edge.status_json()['blocked'], [{'domain': 'pa.example'}])
    said = w.edge.command('status', w.edge.path, 'pa.example')[1]
    check('blocked' in said and 'until it is unblocked' in said, said)
    check(refused(w), 'a reload has ended it')
    said = w.edge.command('explain', w.edge.path, 'pa.example', seconds=130)[1]
    check('xmppedge unblock %s pa.example' % w.edge.path in ' '.join(said.split()), said)


@test
def unblocked_it_passes_at_once(w):
    order(w, 'block', 'pa.example')
    equal(order(w, 'unblock', 'pa.example'), 'ok\n')
    crosses(w, dial(w), 'after')
    order(w, 'unblock', 'pa.example', expect=1)


@test
def its_time_ends_it(w):
    order(w, 'block', 'pa.example', '2s')
    check('until' in w.edge.status_json()['blocked'][0], 'status does not say until when')
    check(refused(w), 'a blocked domain comes in')
    wait_until(lambda: not w.edge.status_json()['blocked'], 10, 'the end of its time')
    crosses(w, dial(w), 'later')


@test
def a_monitor_is_told(w):
    ended = dial(w)
    order(w, 'block', 'pa.example')
    ended.wait_end()

    def told(name, *labels):
        lines = order(w, 'metrics').splitlines()
        return [int(x.split()[-1]) for x in lines if x.startswith(name) and all(label in x for label in labels)]
    equal(told('xmppedge_blocked_domains '), [1], 'how many are blocked')
    wait_until(lambda: sum(told('xmppedge_ends_total', 'reason="blocked"')), 10, 'ends by that')
    order(w, 'unblock', 'pa.example')
    equal(told('xmppedge_blocked_domains '), [0], 'how many are blocked')


@test
def so_many_can_be_blocked_and_no_more(w):
    w.edge.default = 'allow'
    w.edge.write()
    w.edge.reload()
    w.edge.wait_log('reloaded')
    for i in range(BLOCKS):
        order(w, 'block', 'x%d.example' % i)
    said = order(w, 'block', 'pa.example', expect=1)
    equal(said, 'failed: too many domains are blocked; xmppedge status FILE names them\n')
    equal(len(w.edge.status_json()['blocked']), BLOCKS, 'how many are')
    order(w, 'block', 'x7.example', '1h')       # one of them, until when
    for i in range(BLOCKS):
        order(w, 'unblock', 'x%d.example' % i)
    equal(w.edge.status_json()['blocked'], [], 'none is any more')
    order(w, 'block', 'pa.example')
    order(w, 'unblock', 'pa.example')


@test
def a_gateway_says_who_can_do_it(w):
    for word in ('block', 'unblock'):
        status, said = w.border.gateway.command(word, w.border.gateway.path, 'pa.example')
        equal((status, said), (1, 'failed: this node is a gateway: block or unblock the domain at each edge\n'))


begin(setup, 'dnsmasq', 'openssl')
