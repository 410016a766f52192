"""gen_rows.py -- scenes of what works: every row, both directions, every way to authenticate."""

from gen_talk import HOSTS, OURS, NS_TLS, NS_SASL, scene

BOTH = ('1.2', '1.3')
WAYS = ('in', 'out')


def trunk_up(c, domain=OURS, ask='required', **tls):
    """DESIGN: TLS at once, EXTERNAL, the trunk, acknowledgements."""
    c.dial()
    c.handshake(ask=ask, alpn='xmpp-server', **tls)
    c.streams('EXTERNAL')
    c.external()
    c.streams('trunk sm')
    c.say(0, "<trunk xmlns='urn:xmppedge:trunk:0'><domain>%s</domain></trunk>" % domain)
    c.say(1, "<trunk xmlns='urn:xmppedge:trunk:0' max-bytes='262144' idle-seconds='600'/>")
    c.say(0, "<enable xmlns='urn:xmpp:sm:3'/>")
    c.say(1, "<enabled xmlns='urn:xmpp:sm:3'/>")


def trunk_talk(c, partner='pa.example'):
    c.message(0, 'Out', frm=OURS, to=partner)
    c.say(0, "<r xmlns='urn:xmpp:sm:3'/>")
    c.say(1, "<a xmlns='urn:xmpp:sm:3' h='1'/>")
    c.scene.wait(1)
    c.message(1, 'In', frm=partner, to=OURS)
    c.say(1, "<r xmlns='urn:xmpp:sm:3'/>")
    c.say(0, "<a xmlns='urn:xmpp:sm:3' h='1'/>")
    c.scene.wait(1)


def upto_tls(c, features='dialback', offer='starttls-required', dialled=False, **tls):
    """A connection that stands, with TLS, and the features inside."""
    if not dialled:
        c.dial()
    c.streams(offer)
    c.starttls(**tls)
    c.streams(features)
    return c


def external(c, features='', n=2, **tls):
    upto_tls(c, 'EXTERNAL dialback', **tls)
    c.external()
    c.streams(features)
    return c.stanzas(0, n)


BLIND_EXTERNAL = {'method': 'EXTERNAL', 'reached': 'stanzas'}


@scene(WAYS, BOTH)
def starttls_external(s):
    c = s.federation()
    external(c).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL', proof='proven', version='TLS ' + s.version, starttls=True,
            without_keys={'proof': 'proven' if s.version == '1.2' else 'inferred'})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def direct_tls(s):
    c = s.federation()
    c.dial()
    c.handshake(alpn='xmpp-server')
    c.streams('EXTERNAL dialback')
    c.external()
    c.streams('')
    c.stanzas(0, 2).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL', starttls=False,
            without_keys={'to': c.domain[1], 'from': ''})
    s.row(c.row, 'works', 'conforms')


@scene(('in',), BOTH)
def row_three(s):
    c = s.trunk()
    trunk_up(c)
    trunk_talk(c)
    c.close()
    c.truth('worked', reached='stanzas', method='trunk', proof='proven',
            without_keys={'from': '', 'method': 'EXTERNAL', 'proof': 'proven' if s.version == '1.2' else 'inferred'})
    s.row('23456-in', 'works', 'conforms')


@scene(('in',), BOTH)
def row_three_goes_on(s):
    """A trunk that is still up when the capture ends."""
    c = s.trunk()
    trunk_up(c)
    for _ in range(3):
        trunk_talk(c)
        s.wait(30)
    c.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    s.row('23456-in', 'works', 'conforms')


@scene(('in',), BOTH)
def inner_server_dials(s):
    """A server inside that is no gateway speaks to partners through the edge: ours is who calls."""
    for partner in ('pa.example', 'pb.example'):
        c = s.call('fe1', 'inner', 23456, OURS, partner, 'in', '23456-in')
        c.domain = (OURS, partner)
        c.dial()
        c.handshake(ask='required', alpn='xmpp-server')
        c.streams('EXTERNAL')
        c.external()
        c.streams('')
        c.stanzas(0, 2).close()
        c.truth('worked', reached='stanzas', method='EXTERNAL', without_keys={'from': ''})
    s.row('23456-in', 'works', 'conforms')
    s.partners = [(OURS, 'pa.example'), (OURS, 'pb.example')]
    s.partners_without_keys = [(HOSTS['fe1'], 'pa.example'), (HOSTS['fe1'], 'pb.example')]


def dialback(s, way, version, plain=False, caller='pa', partner='pa.example', kind='valid', n=2):
    """Both connections of a dialback: the question, and the one on which it is verified."""
    make, back = (s.inbound, s.outbound) if way == 'in' else (s.outbound, s.inbound)
    peer = {'caller' if way == 'in' else 'called': caller, 'partner': partner}
    c = make(**peer)
    v = back(**{'called' if way == 'in' else 'caller': caller, 'partner': partner})
    if plain:
        c.dial()
        c.streams('dialback')
    else:
        upto_tls(c, version=version, client_cert=False)
    c.key()
    ident = c.stream_id
    s.wait(0.1)
    if plain:
        v.dial()
        v.streams('dialback')
    else:
        upto_tls(v, version=version, client_cert=False)
    v.verify(ident, kind)
    v.close()
    c.answer(kind)
    return c, v


@scene(WAYS, BOTH)
def starttls_dialback(s):
    c, v = dialback(s, s.way, s.version)
    c.stanzas(0, 2).close()
    c.truth('worked', reached='stanzas', method='dialback', without_keys={'method': 'EXTERNAL or dialback'})
    v.truth('worked', reached='authenticated', method='verify', verify_only=True)
    s.row('5269-in', 'works', 'conforms')
    s.row('5269-out', 'works', 'conforms')


@scene(WAYS)
def tcp_dialback(s):
    c, v = dialback(s, s.way, '', plain=True)
    c.stanzas(0, 2).close()
    c.truth('worked', reached='stanzas', method='dialback', violations=['plain-stanzas'])
    v.truth('worked', reached='authenticated', method='verify', verify_only=True)
    s.row(c.row, 'works', 'violates')
    s.row(v.row, 'works', 'conforms')


@scene(WAYS)
def tcp_dialback_before_xmpp_1(s):
    """Headers without version and without names, as gmail.com had them."""
    c = s.federation()
    c.dial()
    c.streams(None, version='', frm='', to='')
    c.key()
    c.answer()
    c.stanzas(0, 1).close()
    c.truth('worked', reached='stanzas', method='dialback', violations=['plain-stanzas'])
    s.row(c.row, 'works', 'violates')


@scene(WAYS, BOTH)
def two_pairs_on_one_stream(s):
    """XEP-0220 2.6: a second pair of domains on the same stream."""
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.key()
    c.answer()
    c.message(0)
    s.wait(0.7)
    c.key(frm='two.' + c.domain[0])
    c.answer(to='two.' + c.domain[0])
    c.message(0, frm='two.' + c.domain[0])
    s.wait(0.7)
    c.close()
    c.truth('worked', reached='stanzas', method='dialback', without_keys={'method': 'EXTERNAL or dialback'})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def second_pair_refused(s):
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.key()
    c.answer()
    c.stanzas(0, 2)
    c.key(to='other.' + c.domain[1])
    c.answer('error', frm='other.' + c.domain[1], condition='item-not-found')
    c.message(0)
    s.wait(1)
    c.close()
    c.truth('worked', reached='stanzas', method='dialback', setback='dialback-error',
            without_keys={'method': 'EXTERNAL or dialback', 'setback': 'none'})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def external_refused_then_dialback(s):
    """XEP-0178 1.2: EXTERNAL fails, dialback on the same stream does it."""
    c = s.federation()
    upto_tls(c, 'EXTERNAL dialback')
    c.external(False, text='no')
    c.key()
    c.answer()
    c.stanzas(0, 2).close()
    c.truth('worked', reached='stanzas', method='dialback', setback='sasl-refused',
            without_keys={'method': 'EXTERNAL or dialback', 'setback': 'none'})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def bidi(s):
    """XEP-0288: stanzas in both directions on one connection."""
    c = s.federation()
    upto_tls(c, 'EXTERNAL bidi')
    c.say(0, "<bidi xmlns='urn:xmpp:bidi'/>")
    c.external()
    c.streams('')
    c.stanzas(0, 2).stanzas(1, 2)
    c.close(1)
    c.truth('worked', reached='stanzas', method='EXTERNAL', bidi=True, without_keys={'bidi': False})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def ipv6(s):
    c = s.inbound(caller='pa6', called='edge6') if s.way == 'in' else s.outbound(caller='edge6', called='pa6')
    external(c).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def large_messages(s):
    c = s.federation()
    external(c)
    for _ in range(3):
        c.message(0, 'x' * 20000)
        s.wait(0.5)
    c.close()
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def still_open(s):
    """The capture ends while the stream works."""
    c = s.federation()
    external(c)
    s.wait(5)
    c.stanzas(0, 2)
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def orderly_shutdown(s):
    """A server goes down and says so: no failure, the work was done."""
    c = s.federation()
    external(c)
    c.error(1, 'system-shutdown')
    c.shut(1)
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def inactivity_close(s):
    c = s.federation()
    external(c)
    s.wait(600)
    c.error(1, 'connection-timeout')
    c.shut(1)
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(WAYS)
def keepalives(s):
    """Blanks on an idle stream."""
    c = s.federation()
    external(c, version='1.3')
    for _ in range(4):
        s.wait(300)
        c.say(0, ' ')
    c.stanzas(0).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(tls=BOTH)
def all_rows(s):
    """A message on its way from a gateway to a partner and back; all three rows, two gateways."""
    t, u = s.trunk(), s.trunk('fe2')
    trunk_up(t)
    trunk_up(u)
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    o = s.outbound()
    external(o)
    i = s.inbound()
    external(i)
    trunk_talk(t)
    trunk_talk(u, 'pb.example')
    o.close()
    i.close()
    for c in (t, u):
        c.close()
        c.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    for c in (o, i):
        c.truth('worked', reached='stanzas', method='EXTERNAL')
    for row in ('5269-in', '5269-out', '23456-in'):
        s.row(row, 'works', 'conforms')


@scene(tls=BOTH)
def many_partners(s):
    """Five partners at once, packets of all of them mixed, one with no server."""
    calls = []
    for host in ('pa', 'pb', 'pc', 'pd'):
        calls.append(s.inbound(host, host + '.example'))
        calls.append(s.outbound(host, host + '.example'))
    bad = s.outbound('pe', 'pe.example')
    for c in calls:
        c.dial()
    bad.refused()
    for c in calls:
        c.streams('starttls')
    for c in calls:
        c.starttls()
    for c in calls:
        c.streams('EXTERNAL')
    for c in calls:
        c.external()
    for c in calls:
        c.streams('')
    for _ in range(2):
        for c in calls:
            c.message(0)
        s.wait(0.6)
    for c in calls:
        c.message(0)
        c.close()
        c.truth('worked', reached='stanzas', method='EXTERNAL')
    bad.truth('failed', 'tcp-refused', **{'from': '', 'to': ''})
    s.row('5269-in', 'works', 'conforms')
    s.row('5269-out', 'partly', 'conforms')


@scene(WAYS, BOTH)
def no_client_certificate(s):
    """Asked for and not there: dialback does it, and nobody claims a certificate."""
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.key()
    c.answer()
    c.stanzas(0, 3).close()
    c.truth('worked', reached='stanzas', method='dialback', proof='empty',
            without_keys={'method': 'EXTERNAL or dialback', 'proof': 'empty' if s.version == '1.2' else 'inferred-none'})
    s.row(c.row, 'works', 'conforms')


@scene(('in',), BOTH)
def resumed(s):
    """The second connection resumes the TLS session of the first: no certificates cross the wire."""
    c = s.inbound()
    external(c).close()
    d = s.inbound()
    d.dial()
    d.streams('starttls-required')
    d.starttls(contexts=c.made, session=c.tls[0].session)
    d.streams('EXTERNAL')
    d.external()
    d.streams('')
    d.stanzas(0, 2).close()
    for x in (c, d):
        x.truth('worked', reached='stanzas', method='EXTERNAL')
    d.truth('worked', reached='stanzas', method='EXTERNAL', resumed=True)
    s.row('5269-in', 'works', 'conforms')


@scene(('in',), BOTH)
def trunk_resumed(s):
    """A trunk on a resumed session: whether the gateway had proved itself cannot be seen; no violation."""
    t = s.trunk()
    trunk_up(t)
    trunk_talk(t)
    t.close()
    u = s.trunk()
    u.dial()
    u.handshake(contexts=t.made, session=t.tls[0].session)
    u.streams('EXTERNAL')
    u.external()
    u.streams('trunk sm')
    u.say(0, "<trunk xmlns='urn:xmppedge:trunk:0'><domain>%s</domain></trunk>" % OURS)
    u.say(1, "<trunk xmlns='urn:xmppedge:trunk:0' max-bytes='262144' idle-seconds='600'/>")
    trunk_talk(u)
    u.close()
    t.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    u.truth('worked', reached='stanzas', method='trunk', resumed=True, suspected=['23456-without-mutual-tls'],
            without_keys={'from': '', 'method': 'EXTERNAL'})
    s.row('23456-in', 'works', 'cannot-tell')


@scene(('out',), BOTH)
def name_server_then_call(s):
    s.ask('_xmpps-server._tcp.pa.example', 'SRV', [], rcode=3)
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    s.ask('x.pa.example', 'AAAA', [])
    c = s.outbound()
    external(c).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene(('out',), BOTH)
def ipv6_fails_ipv4_works(s):
    """Happy Eyeballs: one address is silent, the other one works."""
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'AAAA', [HOSTS['pa6']])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    d = s.outbound(caller='edge6', called='pa6')
    d.refused()
    c = s.outbound()
    external(c).close()
    d.truth('failed', 'tcp-refused', **{'from': ''})
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'partly', 'conforms')


@scene(WAYS, options=[])
def addresses_inferred(s):
    """Nobody tells the addresses of the edge; it is the host that talks to all others."""
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    for host in ('pa', 'pb', 'pc'):
        c = s.inbound(host, host + '.example') if s.way == 'in' else s.outbound(host, host + '.example')
        external(c, version='1.3').close()
        c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


@scene()
def nothing_of_xmpp(s):
    """Other traffic: nothing is reported."""
    c = s.call('client', 'fe1', 80, '', '', 'unknown', 'other')
    c.dial()
    c.say(0, 'GET / HTTP/1.1\r\nHost: fe1\r\n\r\n')
    c.say(1, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    c.finish(0)
    d = s.call('client', 'fe1', 5222, '', '', 'unknown', 'other')
    d.dial()
    d.streams('starttls', ns='jabber:client')
    d.close()


@scene()
def other_services_of_xmpp(s):
    """Clients, in the plain and in TLS that names them, a component, and what came to a port of clients: counted."""
    c = s.call('client', 'fe1', 5223, '', 'fe1.example', 'unknown', 'other')
    c.dial()
    c.handshake(ask='none', alpn='xmpp-client')
    c.close()
    d = s.call('client', 'fe1', 5347, '', 'fe1.example', 'unknown', 'other')
    d.dial()
    d.streams('', ns='jabber:component:accept')
    d.close()
    e = s.call('client', 'fe1', 5222, '', 'fe1.example', 'unknown', 'other')
    e.dial()
    e.streams('starttls', ns='jabber:client')
    e.close()
    f = s.call('client', 'fe1', 5222, '', 'fe1.example', 'unknown', 'other')
    f.dial()
    f.say(0, b'\0\1\2\3')
    f.finish(0)


@scene(WAYS, BOTH)
def certificate_kinds(s):
    """xmppAddr alone, SRV-ID alone, and a wildcard are all good for the domain."""
    for kind in ('addr', 'srv', 'wild'):
        c = s.inbound(partner='chat.pa.example') if s.way == 'in' else s.outbound(partner='chat.pa.example')
        def leaf(domain):
            if kind == 'addr':
                return s.ca.leaf(xmpp_addr=domain)
            if kind == 'srv':
                return s.ca.leaf('host.elsewhere.example', srv_name='_xmpp-server.' + domain)
            return s.ca.leaf('*.' + domain.split('.', 1)[1])
        external(c, client_cert=leaf(c.domain[0]), server_cert=leaf(c.domain[1])).close()
        c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row(c.row, 'works', 'conforms')


PROXY_HEADERS = (b'PROXY TCP4 198.51.100.20 203.0.113.10 33000 5269\r\n',
                 b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f' + bytes((198, 51, 100, 20, 203, 0, 113, 10))
                 + b'\x80\xe8\x14\x95\x03\0\0')


@scene(('in',), BOTH)
def behind_a_balancer(s):
    """PROXY protocol, version 1 and 2: what follows the header is a stream like any other."""
    for header in PROXY_HEADERS:
        c = s.inbound(caller='client', called='inner')
        c.dial()
        c.say(0, header)
        external(c, dialled=True).close()
        c.truth('worked', reached='stanzas', method='EXTERNAL', proxy='198.51.100.20')
    s.row('5269-in', 'works', 'conforms')


@scene(('in',), BOTH)
def behind_a_balancer_direct_tls(s):
    """The same, with the ClientHello in the segment of the header."""
    for header in PROXY_HEADERS:
        c = s.inbound(caller='client', called='inner')
        c.dial()
        c.send(0, header, acked=False)
        c.handshake(alpn='xmpp-server')
        c.streams('EXTERNAL')
        c.external()
        c.streams('')
        c.stanzas(0, 2).close()
        c.truth('worked', reached='stanzas', method='EXTERNAL', proxy='198.51.100.20', without_keys={'from': ''})
    s.row('5269-in', 'works', 'conforms')
