#!/usr/bin/env python3
"""71-families.t -- an edge with an address of each family, and partners who have only one of either.

Both directions of each: the partner calls, and has his message sent back by the echo domain of the gateway, on a
connection of the edge's own.  The addresses of IPv6 are made here, so it needs root.
"""
import os
import re
import subprocess
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Gateway, Pki, begin, partner                             # noqa: E402
from lab import Lab                                                             # noqa: E402
from scene import DIALBACK, LIMITS, World                                       # noqa: E402
from tap import check, equal, skip_all, test                                    # noqa: E402
from xmpp import Peer, message                                                  # noqa: E402

EX6, SIX, BOTH6 = 'fd5e:1::21', 'fd5e:1::61', 'fd5e:1::62'


def ip_address(verb, ip):
    return subprocess.run(['ip', '-6', 'address', verb, ip + '/128', 'dev', 'lo'] + ['nodad'] * (verb == 'add'),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def make_addresses(lab):
    for ip in EX6, SIX, BOTH6:
        if not ip_address('add', ip):
            skip_all('no address of IPv6 can be made here')
        lab.closers.append(lambda ip=ip: ip_address('del', ip))


def setup():
    w = World()
    w.lab = lab = Lab()
    make_addresses(lab)
    w.pki = pki = Pki(lab)
    w.dns = dns = lab.resolver('outside', lab.ip(2))
    dns.server('four.example', lab.ip(61))
    dns.server('six.example', SIX)
    dns.srv('both.example', 'xmpp.both.example', 5269)
    dns.address('xmpp.both.example', lab.ip(62), BOTH6)
    dns.server('own.example', EX6)
    dns.start()
    w.four = Peer(lab, ['four.example'], (lab.ip(61), 5269))
    w.six = Peer(lab, ['six.example'], (SIX, 5269))
    w.both = Peer(lab, ['both.example'], (lab.ip(62), 5269))    # at its other address nobody listens
    domains = 'four.example', 'six.example', 'both.example', 'own.example'
    w.edge = Edge(lab, 'edge01', lab.ip(21), lab.ip(31), pki, dns, {'corp.example': pki.public.issue('corp.example')},
                  [partner(d, **DIALBACK) for d in domains], limits=LIMITS, also=EX6,
                  networks='127.0.0.0/8 %s %s' % (SIX, BOTH6)).start()
    w.gateway = Gateway(lab, 'fe01', lab.ip(41), pki, [(w.edge.host,) + w.edge.internal], [],
                        extra="<echo domain='corp.example'/>").start()
    w.gateway.wait_trunk(w.edge)
    return w


def escaped(ip, port='5269'):
    return re.escape('[%s]:' % ip if ':' in ip else ip + ':') + port


def goes_both_ways(w, peer, external):
    """What he says comes back to him; who called whom, and from where, stands in the log."""
    domain, own = peer.domains[0], peer.address[0]
    s = peer.dial((external, 5269), 'corp.example')
    text = 'from %s to %s' % (domain, external)
    s.send(message('a@' + domain, 'b@corp.example', text))
    peer.wait_message(text)
    w.edge.wait_log('s2s-in-open', remote=domain, peer=escaped(own, r'\d+'), via=escaped(external))
    w.edge.wait_log('s2s-out-open', remote=domain, peer=escaped(own), via=escaped(external, r'\d+'))
    s.close()


@test
def a_partner_who_has_only_ipv4_is_reached_and_reaches_us(w):
    goes_both_ways(w, w.four, w.lab.ip(21))


@test
def a_partner_who_has_only_ipv6_is_reached_and_reaches_us(w):
    goes_both_ways(w, w.six, EX6)


@test
def of_one_who_has_both_and_answers_at_one_that_one_is_taken(w):
    goes_both_ways(w, w.both, w.lab.ip(21))


@test
def our_own_addresses_of_both_families_are_not_dialled(w):
    code, said = w.edge.command('ping', w.edge.path, 'own.example')
    equal(code, 1, 'exit code')
    check('why=address-refused' in said, said)
    w.edge.wait_log('s2s-out-closed', why='address-refused', detail='.*' + escaped(EX6) + '.*')


@test
def both_addresses_are_told(w):
    line = w.edge.wait_log('ready')
    equal(line.fields['external'], '%s:5269 [%s]:5269' % (w.lab.ip(21), EX6), 'external')
    code, said = w.edge.command('ports', w.edge.path)
    equal(code, 0, 'exit code of ports')
    for ip in w.lab.ip(21), EX6:
        check(re.search(r'(?m)^1 .*any +%s ' % re.escape(ip), said), said)
        check(re.search(r'(?m)^2 .*%s +any ' % re.escape(ip), said), said)
    said = w.edge.command('explain', w.edge.path, 'six.example')[1]
    check('%s or %s' % (w.lab.ip(21), EX6) in said, said)
    check('fd5e:1::61' in said, said)


@test
def a_reload_that_adds_or_takes_an_address_is_refused(w):
    w.edge.also = None
    w.edge.write()
    w.edge.forget_log()
    w.edge.reload()
    line = w.edge.wait_log('reload-failed')
    check('external address' in line.text, line.text)


if __name__ == '__main__':
    begin(setup, 'dnsmasq', 'ip')
