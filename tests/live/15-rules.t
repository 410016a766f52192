#!/usr/bin/env python3
"""15-rules.t -- which stanzas pass by <allow kinds="..."/> and <deny namespace="..."/>, with a real Prosody on either side.

    partner Prosody --5269--> edge <==23456== gateway --s2s--> inner Prosody
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner, servers, tag             # noqa: E402
from lab import Lab                                                    # noqa: E402
from scene import World                                                # noqa: E402
from tap import check, equal, test                                     # noqa: E402
from xmpp import Client, error                                         # noqa: E402

LAST, VERSION = "<query xmlns='jabber:iq:last'/>", "<query xmlns='jabber:iq:version'/>"
RULES = {'few.example': tag('allow', {'kinds': 'message presence', 'direction': 'in'}),
         'shy.example': tag('deny', {'namespace': 'jabber:iq:last'}),
         'all.example': ''}


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside, w.partner, w.inner = servers(lab, pki, RULES, ('alice',), ('bob',))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner(d, rules=rules) for d, rules in RULES.items()],
                      [w.inner.s2s + (['corp.example'], 'optional')])
    w.border.start()
    w.edge = w.border.edge
    lab.wait_ready(w.partner, w.inner)
    return w


def users(w, domain):
    alice, bob = Client('alice@' + domain, w.partner), Client('bob@corp.example', w.inner)
    for one, other in ((alice, bob), (bob, alice)):
        one.message(other.jid, 'from ' + one.bare)
        other.wait_message('from ' + one.bare, sender=one)
    return alice, bob


def is_denied(answer):
    return answer.get('type') == 'error' and error(answer).condition == 'not-allowed'


def leave(w, *clients):
    for client in clients:
        client.close()
    w.edge.forget_log()


@test
def without_rules_all_passes(w):
    alice, bob = users(w, 'all.example')
    for one, other in ((alice, bob), (bob, alice)):
        for question in (LAST, VERSION):
            check(not is_denied(one.iq(other.jid, question)), 'an answer to a question')
    check(not w.edge.find_log('bounce'), 'nothing comes back')
    leave(w, alice, bob)


@test
def of_kinds_that_are_not_allowed_in_nothing_comes_in_and_answers_do(w):
    alice, bob = users(w, 'few.example')
    check(is_denied(alice.iq(bob.jid, VERSION)), 'a question that comes in')
    line = w.edge.wait_log('bounce', why='kind-denied')
    equal((line.fields['from'], line.fields['kind']), ('few.example', 'iq'))
    check(not is_denied(bob.iq(alice.jid, VERSION)), 'a question that goes out, and its answer')
    equal(len(w.edge.find_log('bounce')), 1, 'what has come back')
    leave(w, alice, bob)


@test
def what_is_in_a_denied_namespace_passes_neither_way(w):
    alice, bob = users(w, 'shy.example')
    for one, other in ((alice, bob), (bob, alice)):
        check(is_denied(one.iq(other.jid, LAST)), 'the question that is denied')
        check(not is_denied(one.iq(other.jid, VERSION)), 'another')
    lines = w.edge.find_log('bounce', why='namespace-denied')
    equal([(x.fields['from'], x.fields['detail']) for x in lines],
          [('shy.example', 'jabber:iq:last'), ('corp.example', 'jabber:iq:last')], 'what the log says')
    leave(w, alice, bob)


@test
def status_says_what_passes(w):
    told = {p['domain']: p.get('passes') for p in w.edge.status_json()['partners']}
    equal(told, {'few.example': 'only message presence in', 'shy.example': 'not jabber:iq:last both ways',
                 'all.example': None}, 'partners')
    said = w.edge.command('status', w.edge.path, 'few.example')[1]
    check('passes' in said and 'only message presence in' in said, said)


begin(setup, 'prosody', 'dnsmasq', 'openssl')
