#!/usr/bin/env python3
"""12-component.t -- partners as components of real inner servers (XEP-0114), beside those that are none.

    partner server --5269--> edge <==23456== gateway --component--> inner server

Inner servers:  Prosody with a `Component` for each partner, and with one that has another secret, one
that is taken already, and none at all for the last;  ejabberd with an `ejabberd_service`.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import hashlib                                                         # noqa: E402
import socket                                                          # noqa: E402

from edge import Border, Pki, begin, partner                           # noqa: E402
from lab import Host, Lab, Process, find_program, wait_until                  # noqa: E402
from tap import check, equal, test                                     # noqa: E402
from xmpp import Client, body, converse, kind                                  # noqa: E402

SECRET = 'a secret of two that know each other'
COMPONENT_PORT = 5347
BURST = 300         # numbered messages to each of two domains


class World:
    pass


def component(domain, secret=SECRET):
    return 'Component "%s"\n    component_secret = "%s"\n' % (domain, secret)


def take_component(ip, domain):
    """Be a component of that server before anybody else is."""
    s = socket.create_connection((ip, COMPONENT_PORT), timeout=10)
    s.sendall(("<stream:stream xmlns='jabber:component:accept' "
               "xmlns:stream='http://etherx.jabber.org/streams' to='%s'>" % domain).encode())
    got = b''
    while b' id=' not in got or b'>' not in got.partition(b' id=')[2]:
        got += s.recv(4096)
    stream_id = got.partition(b' id=')[2][1:].split(got.partition(b' id=')[2][:1])[0]
    s.sendall(b'<handshake>%s</handshake>'
              % hashlib.sha1(stream_id + SECRET.encode()).hexdigest().encode())
    while b'<handshake' not in got:
        got += s.recv(4096)
    return s


def inner_servers(w, lab):
    inside = lab.resolver('inside', lab.ip(4))
    inside.wildcard('example', lab.ip(41))      # every partner that is no component is the gateway
    inside.start()
    nowhere = lab.resolver('nowhere', lab.ip(5))
    nowhere.start()
    w.prosody = lab.prosody('corp', lab.ip(51), inside, [Host('corp.example', users=('bob', 'carol'))],
        settings='component_ports = { %d }; component_interfaces = { "%s" }\n'
        % (COMPONENT_PORT, lab.ip(51)), more=(
        component('pa.example') + component('other-secret.example', 'something that nobody else knows')
        + component('taken.example') + 'Component "rooms.corp.example" "muc"\n    muc_room_locking = false\n'))
    w.ejabberd = lab.ejabberd('ejcorp', lab.ip(52), nowhere, [Host('ejcorp.example')], listen=(
        '  - {port: %d, ip: "%s", module: ejabberd_service, global_routes: false, shaper: none,\n'
        '     hosts: {"pa.example": {password: "%s"}, "pb.example": {password: "%s"}}}\n'
        % (COMPONENT_PORT, lab.ip(52), SECRET, SECRET)))
    lab.wait_ready(w.prosody, w.ejabberd)
    w.taken = take_component(lab.ip(51), 'taken.example')
    secret = lab.write('component.secret', SECRET + '\n')
    os.chmod(secret, 0o600)
    return [w.prosody.s2s + (['corp.example', 'rooms.corp.example'], 'optional',
                             (COMPONENT_PORT, secret, ['pa.example', 'other-secret.example',
                                                       'taken.example', 'unknown.example'])),
            w.ejabberd.s2s + (['ejcorp.example'], 'optional',
                              (COMPONENT_PORT, secret, ['pa.example', 'pb.example']))]


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    for domain in ('corp.example', 'rooms.corp.example', 'ejcorp.example'):
        outside.server(domain, lab.ip(21))
    for domain in ('pa.example', 'pb.example'):
        outside.server(domain, lab.ip(61))
    outside.start()
    w.partner = lab.prosody('pa', lab.ip(61), outside, [
        Host(d, pki.public.issue(d), pki.public, secure=True, users=('alice', 'anna'))
        for d in ('pa.example', 'pb.example')])
    inner = inner_servers(w, lab)
    w.border = Border(lab, pki, outside, ['corp.example', 'rooms.corp.example', 'ejcorp.example'],
                      [partner('pa.example'), partner('pb.example')], inner)
    w.gateway = w.border.gateway
    w.border.start()
    lab.wait_ready(w.partner)
    return w


def talk(w, alice, bob, server):
    one, other = Client(alice, w.partner), Client(bob, server)
    converse(one, other)
    one.close()
    other.close()


def no_stream(w, local, remote):
    """No stream between servers was opened for the two, in either direction."""
    lines = w.gateway.find_log('s2s-(in|out)-open', local=local, remote=remote)
    equal([line.text for line in lines if line.fields['method'] != 'component'], [], 'streams')


@test
def a_partner_is_a_component_of_an_inner_Prosody(w):
    w.gateway.wait_log('s2s-out-open', local='pa.example', remote='corp.example', method='component')
    talk(w, 'alice@pa.example', 'bob@corp.example', w.prosody)
    no_stream(w, 'pa.example', 'corp.example')


@test
def a_partner_is_a_component_of_an_inner_ejabberd(w):
    w.gateway.wait_log('s2s-out-open', local='pa.example', remote='ejcorp.example', method='component')
    talk(w, 'alice@pa.example', 'bob@ejcorp.example', w.ejabberd)
    talk(w, 'alice@pb.example', 'bill@ejcorp.example', w.ejabberd)
    for local in ('pa.example', 'pb.example'):
        no_stream(w, local, 'ejcorp.example')


@test
def a_partner_that_is_none_goes_by_streams_between_servers(w):
    talk(w, 'alice@pb.example', 'bob@corp.example', w.prosody)
    for event in ('s2s-in-open', 's2s-out-open'):
        w.gateway.wait_log(event, local='pb.example', remote='corp.example', method='tcp-dialback')


@test
def all_domains_of_the_inner_server_share_the_connection(w):
    one, other = Client('anna@pa.example', w.partner), Client('carol@corp.example', w.prosody)
    for user in (other, one):       # who comes first makes the room
        user.send("<presence to='hall@rooms.corp.example/%s'><x xmlns='http://jabber.org/protocol/muc'/>"
                  "</presence>" % user.user)
        user.wait_presence('hall@rooms.corp.example/' + user.user, '')
    for n in range(BURST):
        one.message(other.jid, 'direct %d' % n)
        one.send("<message to='hall@rooms.corp.example' type='groupchat'><body>room %d</body></message>" % n)
    for n in range(BURST):
        other.wait_message('direct %d' % n, 20)
    for user in (one, other):
        for n in range(BURST):
            user.wait(lambda s: kind(s) == 'message groupchat' and body(s) == 'room %d' % n, 20, 'room %d' % n)
    one.close()
    other.close()
    no_stream(w, 'pa.example', 'rooms.corp.example')
    equal(len(w.gateway.find_log('s2s-out-open', local='pa.example', remote='corp.example')), 1, 'connections')


@test
def why_the_inner_server_does_not_take_one_is_said_in_a_word(w):
    for domain, why in (('unknown.example', 'component-unknown'), ('taken.example', 'component-conflict'),
                        ('other-secret.example', 'component-refused')):
        w.gateway.wait_log('s2s-out-closed', local=domain, why=why)
    w.taken.close()
    w.gateway.wait_log('s2s-out-open', local='taken.example', method='component')


@test
def what_is_under_way_while_the_inner_server_restarts_waits(w):
    one = Client('alice@pa.example', w.partner)
    w.gateway.forget_log()
    process = w.prosody.processes[0]
    process.kill()
    w.gateway.wait_log('s2s-out-closed', local='pa.example', remote='corp.example')
    for n in range(10):
        one.message('carol@corp.example', 'late %d' % n)
    w.prosody.processes[0] = Process(w.lab, 'corp', process.popen.args)
    w.lab.wait_ready(w.prosody)
    w.gateway.wait_log('s2s-out-open', local='pa.example', remote='corp.example', method='component')
    wait_until(lambda: 'late 9' in offline(w), what='the last of ten messages to be stored')
    text = offline(w)
    check(all('late %d' % n in text for n in range(10)), 'of ten messages: ' + text)
    equal(w.gateway.find_log('bounce'), [], 'bounced')
    one.close()


def offline(w):
    """What Prosody keeps for carol, who is not there."""
    path = os.path.join(w.lab.dir, 'corp', 'data', 'corp%2eexample', 'offline', 'carol.list')
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ''


@test
def a_ping_of_the_gateway_goes_by_the_component(w):
    status, text = w.gateway.command('ping', w.gateway.path, 'corp.example')
    equal((status, text[:3]), (0, 'ok '), text)


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'erl', 'dnsmasq', 'openssl')
