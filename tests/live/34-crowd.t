#!/usr/bin/env python3
"""34-crowd.t -- a crowd comes back: 250 domains at one address, and every server on their way is restarted.

Each domain sends an iq to the inner server and has to have its answer, which makes two dialled and two accepted
streams at each node for each of them.  All settings are the defaults.  The time that it took is printed.
CROWD in the environment is another number of domains.
"""
import os
import resource
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from crowd import Crowd                                                   # noqa: E402
from edge import Border, Pki, binary, have_binary, partner                # noqa: E402
from lab import Lab, need_programs, wait_until                                  # noqa: E402
from tap import check, equal, note, run, skip_all, test                   # noqa: E402
from xmpp import NS_PING                                                  # noqa: E402

LISTED = ['d%03d.crowd.example' % n for n in range(int(os.environ.get('CROWD', '250')) - 50)]
UNLISTED = ['u%03d.crowd.example' % n for n in range(50)]
SOON = 7 * max(1, os.getloadavg()[0] / os.cpu_count())      # seconds; longer where others are at work, too


class World:
    pass


def setup():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    w = World()
    w.lab = lab = Lab()
    outside = lab.resolver('outside', lab.ip(2))
    outside.wildcard('crowd.example', lab.ip(61))
    outside.start()
    policies = [partner(LISTED[0], *LISTED[1:], tls='optional', sasl='not-supported')]
    policies.append("<default tls='optional' sasl='not-supported' dialback='true'/>")
    w.border = Border(lab, Pki(lab), outside, ['corp.example'], policies,
                      [(lab.ip(51), 5269, ['corp.example'], 'optional')])
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.edge.default = 'allow'
    w.edge.level = w.gateway.level = 'info'     # at debug the test would measure the disk
    w.border.start()
    w.town = Crowd(LISTED + UNLISTED, (lab.ip(61), 5269), lambda to: w.edge.external)
    w.corp = Crowd(['corp.example'], (lab.ip(51), 5269), lambda to: w.gateway.listen)
    w.town.up()
    w.corp.up()
    w.round = 0
    return w


def ask(w):
    """An iq of each domain; the time at which the last of them was sent."""
    w.round += 1
    w.town.answers.clear()
    for domain in w.town.domains:
        w.town.send(domain, 'corp.example', "<iq type='get' from='a@%s' to='b@corp.example' id='%s/%d'>"
                    "<ping xmlns='%s'/></iq>" % (domain, domain, w.round, NS_PING))
    return time.monotonic()


def all_answered(w, began, seconds=SOON):
    """All of them have a result soon, and nobody was refused anything."""
    def answers():          # who is killed before it could say what it had delivered has it delivered again
        return [how for id, how in w.town.answers.items() if id.endswith('/%d' % w.round)]
    while len(answers()) < len(w.town.domains) and time.monotonic() < began + seconds:
        time.sleep(0.02)
    took = time.monotonic() - began
    results = sum(1 for how in answers() if how == 'result')
    note('%d of %d answered in %.1f s' % (results, len(w.town.domains), took))
    bad = sorted(set(how for how in w.town.answers.values() if how != 'result'))
    equal((results, bad), (len(w.town.domains), []), 'answers, and conditions of what came back')
    equal(sorted(set(w.town.refusals + w.corp.refusals)), [], 'refusals')
    for node in (w.edge, w.gateway):
        for line in node.lines():
            check(line.event not in ('bounce', 'connection-refused', 's2s-in-refused')
                  and not line.fields.get('why', '').startswith('limit-') or line.event == 's2s-in-waits', line.text)


@test
def a_crowd_comes_for_the_first_time(w):
    all_answered(w, ask(w))


@test
def all_domains_of_one_address_have_their_streams(w):
    streams = [s for s in w.edge.status_json()['streams'] if s.get('direction') == 'in']
    equal(len(streams), len(w.town.domains), 'accepted streams at the edge')
    equal(w.town.open_streams(), len(w.town.domains), 'of them proven')


@test
def the_inner_server_restarts_within_three_seconds(w):
    w.corp.down()
    began = ask(w)
    time.sleep(3)
    w.corp.up()
    all_answered(w, began)


@test
def the_gateway_is_killed_and_comes_again(w):
    w.gateway.kill()
    began = ask(w)
    w.gateway.start()
    all_answered(w, began)


@test
def the_edge_is_killed_and_comes_again(w):
    w.edge.kill()
    wait_until(lambda: w.town.open_streams() == 0, 5, 'the crowd to hear of it')
    began = ask(w)
    w.edge.start()
    all_answered(w, began)


@test
def all_ends_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
