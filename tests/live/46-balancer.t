#!/usr/bin/env python3
"""46-balancer.t -- an edge behind a real haproxy, which says whose connections it brings.

Partners and a gateway connect to haproxy, in both versions of the PROXY protocol.  The edge has to know them by
their own addresses, haproxy's health checks are no events, and who is no balancer is not believed.
"""
import os
import socket
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Gateway, Pki, begin, partner                             # noqa: E402
from lab import Lab, Process, port_open, wait_until                             # noqa: E402
from scene import World                                                         # noqa: E402
from tap import check, equal, test                                              # noqa: E402
from xmpp import Stream, client_context, local                                  # noqa: E402

HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  default-server inter 100ms source {source}
listen one
  bind {one}:5269
  server edge {external}:5269 check send-proxy
listen two
  bind {two}:5269
  server edge {external}:5269 check send-proxy-v2
listen trunk
  bind {two}:23456
  server edge {internal}:23456 check send-proxy-v2
listen plain
  bind {one}:5270
  server edge {external}:5269
"""
V2 = b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x0b\x7f\0\0\x01\x9c\x41\x14\x95'


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.cert = pki.public.issue('raw.example')
    w.edge = Edge(lab, 'edge01', lab.ip(21), lab.ip(31), pki, lab.resolver('outside', lab.ip(2)),
                  {'corp.example': pki.public.issue('corp.example')}, [partner('raw.example')],
                  limits={'source-connections': 3}, balancers=lab.ip(80)).start()
    w.one, w.two = (lab.ip(90), 5269), (lab.ip(91), 5269)
    config = lab.write('haproxy.cfg', HAPROXY.format(source=lab.ip(80), one=lab.ip(90), two=lab.ip(91),
                                                     external=lab.ip(21), internal=lab.ip(31)))
    Process(lab, 'haproxy', ['haproxy', '-db', '-f', config])
    wait_until(lambda: port_open(*w.one) and port_open(*w.two), 10, 'haproxy to listen')
    w.gateway = Gateway(lab, 'fe01', lab.ip(41), pki, [(w.edge.host, lab.ip(91), 23456)],
                        [(lab.ip(51), 5269, ['corp.example'], 'optional')])
    return w


def call(w, at, source):
    s = Stream.dial(at, source=source, name='call of ' + source)
    s.open('raw.example', 'corp.example')
    return s


def say(at, source, said):
    with socket.create_connection(at, 5, (source, 0)) as s:
        s.sendall(said)
        try:
            while s.recv(4096):
                continue
        except ConnectionResetError:
            pass


def is_known(w, at, n):
    """raw.example proves itself from this address, and every line says so."""
    source = w.lab.ip(n)
    s = call(w, at, source)
    s.features()
    s.starttls(client_context(w.cert))
    equal(local(s.external()), 'success', 'SASL outcome')
    own = source.replace('.', r'\.') + ':%d' % s.sock.getsockname()[1]
    w.edge.wait_log('s2s-in-accepted', peer=own)
    w.edge.wait_log('s2s-in-open', peer=own, remote='raw.example')
    equal(w.edge.find_log('s2s-in-.*', peer=w.lab.ip(80) + ':.*'), [], 'lines about the balancer')
    s.close()


@test
def a_partner_behind_haproxy_is_known_by_his_own_address(w):
    is_known(w, w.one, 70)


@test
def so_he_is_in_version_2(w):
    is_known(w, w.two, 71)


@test
def a_gateway_behind_haproxy_is_known_by_its_own_address(w):
    w.gateway.start()
    w.gateway.wait_trunk(w.edge)
    line = w.edge.wait_log('trunk-up')
    check(not line.fields['peer'].startswith(w.lab.ip(80) + ':'), line.text)
    check('"state": "up"' in w.edge.command('status', w.edge.path, '--json')[1] or 'fe01' in w.edge.status(),
          'the trunk is not in the status')
    w.gateway.terminate()


@test
def a_source_has_its_ceiling_and_haproxy_has_none(w):
    several = [call(w, w.one, w.lab.ip(100 + n)) for n in range(8)]
    for s in several:
        s.features()
    same = [call(w, at, w.lab.ip(110)) for at in (w.one, w.two, w.one)]
    for s in same:
        s.features()
    one_more = call(w, w.two, w.lab.ip(110))
    one_more.wait_end()
    w.edge.wait_log('connection-refused', why='limit-source-connections', source=w.lab.ip(110))
    for s in several + same + [one_more]:
        s.close()


@test
def health_checks_of_haproxy_are_no_events(w):
    time.sleep(0.5)         # for what is left of others
    w.edge.forget_log()
    time.sleep(1)
    equal([line.text for line in w.edge.lines()], [], 'lines about ten health checks of each port')


@test
def a_balancer_that_does_not_say_it_is_refused(w):
    s = call(w, (w.lab.ip(90), 5270), w.lab.ip(72))
    s.wait_end()
    line = w.edge.wait_log('connection-refused', why='proxy-header', source=w.lab.ip(80), hop='node')
    equal(line.fields['detail'], 'it begins without a PROXY header', 'detail')


@test
def who_waits_for_its_header_makes_room_for_others(w):
    w.edge.forget_log()
    mute = [socket.create_connection(w.edge.external, 5, (w.lab.ip(80), 0)) for n in range(300)]
    w.edge.wait_log('connection-refused', why='proxy-header', source=w.lab.ip(80),
                    detail='its PROXY header did not come before those of too many others')
    is_known(w, w.two, 75)
    for s in mute:
        s.close()


@test
def who_is_no_balancer_is_not_believed(w):
    for said in (b'PROXY TCP4 127.0.0.11 127.0.0.1 40001 5269\r\n', V2):
        w.edge.forget_log()
        say(w.edge.external, w.lab.ip(73), said)
        line = w.edge.wait_log('s2s-in-closed', why='not-xmpp', peer=w.lab.ip(73) + ':.*')
        check(line.fields['detail'].startswith('not being one of balancers=, it said: PROXY'), line.text)
    say(w.edge.internal, w.lab.ip(73), V2)
    w.edge.wait_log('trunk-.*', why='tls-failed', peer=w.lab.ip(73) + ':.*')


@test
def a_reload_takes_a_balancer_away(w):
    w.edge.balancers = None
    w.edge.write()
    w.edge.forget_log()
    w.edge.reload()
    w.edge.wait_log('reloaded')
    s = Stream.dial(w.one, source=w.lab.ip(74), name='call')
    s.wait_end()
    w.edge.wait_log('s2s-in-closed', why='not-xmpp', peer=w.lab.ip(80) + ':.*')


if __name__ == '__main__':
    begin(setup, 'dnsmasq', 'haproxy')
