#!/usr/bin/env python3
"""00-lab.t -- the harness itself: real servers federate directly, without xmppedge in between.

If this fails, nothing that follows means anything.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lab import Host, Lab, need_programs, self_signed            # noqa: E402
from tap import check, equal, run, skip_all, test          # noqa: E402
from wire import DeafPort, Forwarder                              # noqa: E402
from xmpp import Client, Peer, Stream, converse, message          # noqa: E402


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    public = lab.authority('public')
    dns = lab.resolver('outside', lab.ip(2))
    dns.server('pa.example', lab.ip(11))
    dns.server('pb.example', lab.ip(12), direct=5270)
    dns.server('ej.example', lab.ip(13))
    dns.server('j2.example', lab.ip(14))
    dns.server('ca.example', lab.ip(15))
    dns.server('db.example', lab.ip(16))
    dns.no_service('none.example')
    dns.start()
    w.ej = lab.ejabberd('ej', lab.ip(13), dns, [Host('ej.example', public.issue('ej.example'), public)])
    w.pa = lab.prosody('pa', lab.ip(11), dns, [
        Host('pa.example', public.issue('pa.example'), public, tls='optional', users=['a', 'b', 'c', 'd'])])
    w.pb = lab.prosody('pb', lab.ip(12), dns, [
        Host('pb.example', self_signed(lab, 'pb.example'), public, users=['a'])], direct=True)
    w.j2 = lab.jabberd2('j2', lab.ip(14), dns, Host('j2.example', users=['a']))
    w.ca = Peer(lab, ['ca.example'], (lab.ip(15), 5269), cert=public.issue('ca.example'), ca=public,
                tls='required')
    w.db = Peer(lab, ['db.example'], (lab.ip(16), 5269))
    lab.wait_ready(w.pa, w.pb, w.ej, w.j2)
    return w


def meet(one, jid_one, other, jid_other):
    a, b = Client(jid_one, one), Client(jid_other, other)
    converse(a, b)
    a.close()
    b.close()


@test
def prosody_and_prosody_federate(w):
    meet(w.pa, 'a@pa.example', w.pb, 'a@pb.example')


@test
def prosody_and_ejabberd_federate(w):
    meet(w.pa, 'b@pa.example', w.ej, 'a@ej.example')


@test
def prosody_and_jabberd2_federate(w):
    meet(w.pa, 'c@pa.example', w.j2, 'a@j2.example')


def exchange(w, peer, domain, method):
    """A played server and a real user, each way."""
    d = Client('d@pa.example', w.pa)
    s = peer.dial(w.pa.s2s, 'pa.example', method=method)
    s.send(message('x@' + domain, d.jid, 'hello from ' + domain))
    d.wait_message('hello from ' + domain)
    d.message('x@' + domain, 'hello ' + domain)
    peer.wait_message('hello ' + domain)
    s.close()
    d.close()


@test
def a_played_server_and_prosody_federate_with_certificates(w):
    exchange(w, w.ca, 'ca.example', 'external')


@test
def a_played_server_and_prosody_federate_by_dialback(w):
    exchange(w, w.db, 'db.example', 'dialback')


@test
def a_path_can_be_cut_and_a_port_can_be_deaf(w):
    path = Forwarder(w.lab, (w.lab.ip(30), 5269), w.ca.address)
    s = Stream.dial(path.address)
    s.open('x.example', 'ca.example')
    s.features()
    check(path.cut() == 1, 'one connection was there')
    s.wait_end()
    deaf = DeafPort(w.lab, (w.lab.ip(31), 5269))
    try:
        Stream.dial((w.lab.ip(31), 5269), timeout=0.3)
        raise AssertionError('the deaf port answered')
    except OSError:
        deaf.stop()


@test
def a_domain_that_does_not_exist_is_an_error(w):
    d = Client('d@pa.example', w.pa)
    d.message('x@nowhere.example', 'hello', id='n1')
    equal(d.wait_error('n1').condition, 'remote-server-not-found', 'condition')
    d.message('x@none.example', 'hello', id='n2')
    check(d.wait_error('n2').condition.startswith('remote-server'), 'SRV target "." is an error')
    d.close()


missing = need_programs('prosody', 'erl', 'jabberd2-s2s', 'dnsmasq', 'openssl')
if missing:
    skip_all('not installed: ' + ' '.join(missing))
run(setup)
