"""gen_odd.py -- scenes of what is odd: it works, or fails, in a way that is easily taken for something else."""

from gen_fail import fails, unclear
from gen_rows import BOTH, PROXY_HEADERS, WAYS, dialback, external, trunk_talk, trunk_up, upto_tls
from gen_talk import HOSTS, NS_TLS, OURS, scene
from gen_wire import ACK, FIN, RST, address

SRV = '_xmpp-server._tcp.pa.example'


def works(s, c, method='EXTERNAL', row=('works', 'conforms'), **more):
    c.truth('worked', reached='stanzas', method=method, **more)
    s.row(c.row, *row)


# ---- TCP ----

@scene(WAYS)
def syn_lost_once(s):
    """The first SYN got lost on the way: a second of waiting, nothing more."""
    c = s.federation()
    c.syn()
    s.wait(1)
    external(c.dial(), version='1.3', dialled=True).close()
    works(s, c)


@scene(WAYS, BOTH)
def reset_after_the_end(s):
    """Both streams have ended; a host resets what others close."""
    c = s.federation()
    external(c)
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.rst(1)
    works(s, c)
    # Without keys an end like this looks as any other reset.
    c.truth('worked', reached='stanzas', method='EXTERNAL', without_keys={'outcome': 'failed', 'cause': 'peer-lost'})
    s.row(c.row, 'works', 'conforms', without_keys=('partly', 'conforms'))


@scene(WAYS, BOTH)
def reset_after_fin(s):
    """Data in flight while the other side has closed: its RST comes after its FIN."""
    c = s.federation()
    external(c)
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.fin(1)
    c.rst(1)
    works(s, c)


@scene(WAYS, BOTH)
def fin_again_and_again(s):
    """One side has gone without a trace: the other one repeats its FIN for minutes, and no connection begins."""
    c = s.federation()
    external(c).close()
    for side in (0, 1):
        for i in range(9):
            c.packet(side, FIN | ACK, seq=c.next[side] - 1)
            s.wait(0.2)
            if i % 3 == 0:
                c.packet(1 - side, ACK)
            s.wait(0.4 * 2**i)
        c.packet(1 - side, RST)
        s.wait(0.05)
    works(s, c)


def translate(s, outer, inner, port=None):
    """Packets of an address as they are on the other side of a translation, by a clock that is a little late."""
    for c in s.calls:
        ends = c.identity()
        s.also[sum([(inner, port or ends[i + 1]) if ends[i] == outer else ends[i:i + 2] for i in (0, 2)], ())] = ends
    outer, inner = address(outer), address(inner)
    for p in list(s.packets):
        if p.proto != 6 or outer not in (p.source, p.target):
            continue
        q = p.copy(time=p.time + 200000, ttl=p.ttl - 1)
        if p.source == outer:
            q.source, q.sport = inner, port or p.sport
        else:
            q.target, q.dport = inner, port or p.dport
        s.packets.append(q)


@scene(WAYS, BOTH, options=[])
def seen_on_both_sides_of_a_translation(s):
    """The edge behind NAT, recorded inside and outside: one connection, and the partner is not the edge."""
    c = s.federation()
    external(c).close()
    translate(s, HOSTS['edge'], '10.77.0.10', 61000 if s.way == 'out' else None)
    works(s, c)


@scene(WAYS, options=[])
def seen_twice_without_tls(s):
    """The same in plain text, known by its sequence numbers."""
    c, v = dialback(s, s.way, '', plain=True)
    c.stanzas(0, 2).close()
    translate(s, HOSTS['edge'], '10.77.0.10')
    works(s, c, 'dialback', violations=['plain-stanzas'], row=('works', 'violates'))
    v.truth('worked', reached='authenticated', method='verify', verify_only=True)
    s.row(v.row, 'works', 'conforms')


@scene(('out',), options=[])
def unanswered_on_both_sides_of_a_translation(s):
    """A SYN that nobody answers goes out through NAT: one attempt."""
    c = s.outbound()
    c.unanswered()
    translate(s, HOSTS['edge'], '10.77.0.10', 61000)
    fails(s, c, 'tcp-timeout', 'syn', **{'from': '', 'to': ''})


@scene(('in',), options=[])
def seen_before_and_behind_a_balancer(s):
    """Two connections that have nothing in common but what was said; the second one names the first."""
    o, i = s.inbound(), s.inbound(caller='client', called='inner')
    o.port = (33000, 5269)
    s.also[o.identity()] = i.identity()
    s.calls.remove(o)       # it is told about as the other
    for c in (o, i):
        c.dial()
        if c is i:
            c.say(0, PROXY_HEADERS[0])
        c.say(0, c.header(0))
        c.say(1, c.header(1))
        c.error(1, 'host-unknown')
        c.finish(1)
    fails(s, i, 'host-unknown', 'stream', proxy='198.51.100.20')


@scene(('in',), BOTH)
def same_ports_again(s):
    """The same four numbers are used for a second connection a minute later: two attempts."""
    c = s.inbound()
    external(c).close()
    s.wait(60)
    d = s.inbound()
    d.port = c.port
    external(d).close()
    # both have one identity: the report has two attempts
    works(s, c)
    works(s, d)


@scene(WAYS, BOTH)
def reset_in_the_handshake(s):
    """A firewall that looks into TLS resets the connection at the ClientHello."""
    c = s.federation()
    c.dial()
    c.streams('starttls')
    c.starttls(stop_after=1)
    c.rst(1)
    fails(s, c, 'peer-lost', 'header')


@scene(WAYS)
def many_at_once(s):
    """One partner with eight connections."""
    calls = [s.federation() for _ in range(8)]
    for c in calls:
        c.dial()
    for c in calls:
        c.streams('starttls')
        c.starttls(version='1.2')
    for c in calls:
        c.streams('EXTERNAL')
        c.external()
        c.streams('')
    for _ in range(3):
        for c in calls:
            c.message(0)
            s.wait(0.4)
    for c in calls:
        c.close()
        works(s, c)


# ---- TLS ----

@scene(WAYS, ('1.3',))
def hello_retry(s):
    """The called wants another group: a HelloRetryRequest comes first."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    made = c.contexts('1.3', 'optional', c.certificate(0), c.certificate(1), False, None, None, None, ())
    for ctx in made:
        ctx.verify_flags |= 0x280000
    made[1].set_ecdh_curve('secp384r1')
    c.starttls(contexts=made)
    c.streams('EXTERNAL')
    c.external()
    c.streams('')
    c.stanzas(0, 2).close()
    works(s, c, proof='proven', without_keys={'proof': 'inferred'})


@scene(WAYS)
def chacha(s):
    c = s.federation()
    external(c, version='1.2', ciphers=('ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-ECDSA-CHACHA20-POLY1305')).close()
    works(s, c)


@scene(WAYS)
def cbc(s):
    """Content that cannot be read even with keys."""
    c = s.federation()
    external(c, n=4, version='1.2', ciphers=('ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES128-SHA256')).close()
    works(s, c, 'EXTERNAL or dialback')


@scene(WAYS, ('1.3',))
def no_tickets(s):
    c = s.federation()
    external(c, tickets=0).close()
    works(s, c)


@scene(WAYS, BOTH)
def not_asked(s):
    """A server that asks for no client certificate: only dialback is left."""
    c = s.federation()
    upto_tls(c, ask='none')
    c.key()
    c.answer()
    c.stanzas(0, 3).close()
    works(s, c, 'dialback', proof='not-asked', without_keys={'method': 'EXTERNAL or dialback', 'proof':
          'not-asked' if s.version == '1.2' else 'inferred-none'})


@scene(WAYS)
def blank_after_starttls(s):
    """Some send a line end after <starttls/> and <proceed/>."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.say(0, "<starttls xmlns='%s'/>\n" % NS_TLS)
    c.say(1, "<proceed xmlns='%s'/>" % NS_TLS)
    c.handshake(version='1.2')
    c.streams('EXTERNAL')
    c.external()
    c.streams('')
    c.stanzas(0, 2).close()
    works(s, c)


@scene(('in',), BOTH)
def trunk_empty_certificate(s):
    """Asked for, nothing sent, and the edge goes on all the same."""
    c = s.trunk()
    trunk_up(c, client_cert=False, ask='optional')
    trunk_talk(c)
    c.close()
    c.truth('worked', violations=['23456-without-mutual-tls'], proof='empty', without_keys={
        'from': '', 'violations': [], 'suspected': ['23456-without-mutual-tls'],
        'proof': 'empty' if s.version == '1.2' else 'inferred-none'})
    s.row('23456-in', 'works', 'violates', without_keys=('works', 'cannot-tell'))


@scene(('in',))
def trunk_refused(s):
    c = s.trunk()
    c.refused()
    fails(s, c, 'tcp-refused', 'syn', **{'from': '', 'to': ''})


@scene(('in',), BOTH)
def trunk_lost_and_again(s):
    """A trunk breaks and is dialled again."""
    c = s.trunk()
    trunk_up(c)
    trunk_talk(c)
    c.rst(1)
    s.wait(1)
    r = s.trunk()
    r.refused()
    s.wait(2)
    d = s.trunk()
    trunk_up(d)
    trunk_talk(d)
    c.truth('failed', 'peer-lost', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    r.truth('failed', 'tcp-refused', **{'from': '', 'to': ''})
    d.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    s.row('23456-in', 'partly', 'conforms')


@scene(('in',), BOTH)
def quiet_trunk(s):
    """Two hours with nothing but acknowledgements."""
    c = s.trunk()
    trunk_up(c)
    for _ in range(12):
        s.wait(600)
        c.say(0, "<r xmlns='urn:xmpp:sm:3'/>")
        c.say(1, "<a xmlns='urn:xmpp:sm:3' h='0'/>")
    c.close()
    c.truth('worked', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    s.row('23456-in', 'works', 'conforms')


# ---- names ----

@scene(WAYS, BOTH)
def names_in_capitals(s):
    """Domains are compared without case."""
    c = s.inbound(partner='Pa.EXAMPLE') if s.way == 'in' else s.outbound(partner='Pa.EXAMPLE')
    def leaf(d):
        return s.ca.leaf(d.lower())
    external(c, client_cert=leaf(c.domain[0]), server_cert=leaf(c.domain[1])).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL', **{'from': c.domain[0], 'to': c.domain[1]})
    s.row(c.row, 'works', 'conforms')


@scene(('in',))
def hostile_names(s):
    """What a caller writes into its header goes into reports; it stays text."""
    c = s.inbound(partner='&lt;script&gt;alert(1)&lt;/script&gt;')
    c.dial()
    c.streams('starttls')
    c.error(1, 'host-unknown', '&lt;b&gt;no')
    c.finish(1)
    fails(s, c, 'host-unknown', 'stream', **{'from': '<script>alert(1)</script>'})


@scene(('out',), BOTH)
def direct_tls_by_srv(s):
    """XEP-0368: an SRV record leads to another port; the port table does not forbid to follow it."""
    s.ask('_xmpps-server._tcp.pa.example', 'SRV', [(1, 1, 5270, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    c = s.outbound(port=5270)
    c.dial()
    c.handshake(alpn='xmpp-server')
    c.streams('EXTERNAL')
    c.external()
    c.streams('')
    c.stanzas(0, 2).close()
    c.truth('worked', reached='stanzas', method='EXTERNAL', without_keys={'from': ''})
    s.row('other', 'works', 'conforms')


@scene(('out',))
def srv_leads_to_a_refusing_port(s):
    s.ask(SRV, 'SRV', [(1, 1, 5280, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    c = s.outbound(port=5280)
    c.refused()
    c.truth('failed', 'tcp-refused', **{'from': '', 'domains_by_dns': True})
    s.row('other', 'fails', 'cannot-tell')


@scene(('out',), BOTH)
def first_target_fails(s):
    """Two targets: the first is down, the second works."""
    s.ask(SRV, 'SRV', [(1, 1, 5269, 'x.pa.example'), (2, 1, 5269, 'y.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pb']])
    s.ask('y.pa.example', 'A', [HOSTS['pa']])
    d = s.outbound('pb')
    d.refused()
    c = s.outbound()
    external(c).close()
    d.truth('failed', 'tcp-refused', **{'from': ''})
    works(s, c, row=('partly', 'conforms'))


@scene(('out',))
def answered_at_the_second_try(s):
    s.ask(SRV, 'SRV', None)
    s.wait(2)
    s.ask(SRV, 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    c = s.outbound()
    external(c, version='1.2').close()
    works(s, c)


# ---- what is said ----

@scene(WAYS, BOTH)
def bounces(s):
    """Stanza errors are no failure of the connection."""
    c = s.federation()
    external(c)
    for i in range(3):
        c.say(0, "<message type='error' from='x@%s' to='y@%s'><error type='cancel'><remote-server-not-found "
                 "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>" % c.domain)
        s.wait(0.5)
    c.close()
    works(s, c)


@scene(WAYS, BOTH)
def key_of_another_pair_invalid(s):
    """One pair is refused, another one works on the same stream."""
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.key(frm='bad.' + c.domain[0])
    c.answer('invalid', to='bad.' + c.domain[0])
    c.key()
    c.answer()
    c.stanzas(0, 3).close()
    works(s, c, 'dialback', setback='dialback-invalid', without_keys={'method': 'EXTERNAL or dialback', 'setback': 'none'})


@scene(WAYS, BOTH)
def verified_on_a_working_stream(s):
    """The question of the called comes on a stream that works already, as XEP-0288 permits for others."""
    c = s.federation()
    external(c)
    back = s.outbound() if s.way == 'in' else s.inbound()
    upto_tls(back, client_cert=False)
    back.key()
    c.say(0, "<db:verify from='%s' to='%s' id='%s'>abc</db:verify>" % (c.domain[0], c.domain[1], back.stream_id))
    c.say(1, "<db:verify from='%s' to='%s' id='%s' type='valid'/>" % (c.domain[1], c.domain[0], back.stream_id))
    back.answer()
    back.stanzas(0, 3).close()
    c.close()
    works(s, c)
    works(s, back, 'dialback', without_keys={'method': 'EXTERNAL or dialback'})


@scene(WAYS, BOTH)
def several_verifies(s):
    """Two partners' keys are asked about on one connection: one good, one not."""
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.verify('1111aaaa')
    c.verify('2222bbbb', 'invalid')
    c.close()
    c.truth('worked', reached='authenticated', method='verify', verify_only=True,
            without_keys={'outcome': 'cannot-tell', 'cause': 'capture-short', 'reached': 'tls', 'method': '', 'verify_only': '*'})
    s.row(c.row, 'works', 'conforms', without_keys=('unclear', 'cannot-tell'))


@scene(WAYS)
def verify_unanswered(s):
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.verify('3333cccc', answered=False)
    s.wait(40)
    c.say(0, '</stream:stream>')
    c.finish(0)
    fails(s, c, 'dialback-timeout', 'stream', verify_only=True)


@scene(WAYS)
def verify_error(s):
    """XEP-0220 2.5: an answer all the same."""
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.verify('4444dddd', 'error')
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.finish(0)
    c.truth('worked', reached='authenticated', method='verify', verify_only=True)
    s.row(c.row, 'works', 'conforms')


@scene(WAYS)
def comments_on_a_working_stream(s):
    """They are forbidden, the other side does not mind, and all stanzas are counted, whatever stands between them."""
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.key()
    c.answer()
    c.message(0, 'one')
    c.say(0, '<!-- between -->')
    c.message(0, 'two <!-- inside --> three')
    c.say(0, "<message from='ann@%s' to='bob@%s'><!-- <message/> --><body>four</body></message>" % c.domain)
    c.message(0, 'five')
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.finish(0)
    c.truth('worked', method='dialback', setback='xml-restricted', violations=['plain-stanzas'], stanzas=4)
    s.row(c.row, 'works', 'violates')


@scene(WAYS, BOTH)
def several_keys_and_no_stanza(s):
    """Keys for several domains on one connection: all that was said may be dialback, and is not called stanzas."""
    c = s.federation()
    upto_tls(c, client_cert=False)
    for domain in ('', 'a.', 'b.', 'conference.'):
        c.key(frm=domain + c.domain[0])
        s.wait(0.4)
        c.answer(to=domain + c.domain[0])
        s.wait(0.4)
    s.wait(3)
    c.truth('worked', reached='authenticated', method='dialback', without_keys={'method': 'EXTERNAL or dialback'})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, ('1.2',))
def expired_and_got_around(s):
    """The certificate of one side is over; dialback does it all the same, and the report tells."""
    for side in (0, 1):
        c = s.federation()
        old = s.ca.leaf(c.domain[side], first=(2025, 6, 1), last=(2026, 3, 1))
        upto_tls(c, **({'server_cert': old} if side else {'client_cert': old}))
        c.key()
        c.answer()
        c.stanzas(0, 3).close()
        c.truth('worked', reached='stanzas', method='dialback', setback='cert-expired',
                fault='responder' if side else 'initiator', without_keys={'method': 'EXTERNAL or dialback'})
    s.row(c.row, 'works', 'conforms')


# ---- older than the capture ----

def seen_from_here(s):
    """What was so far is not in the capture."""
    del s.packets[:]
    s.wait(2)
    s.headless = True


def in_use(s, c, row, **more):
    c.truth('worked', reached='authenticated', method='', older=True, **{'from': '', 'to': '', **more})
    s.row(c.row, *row)


@scene(WAYS, BOTH)
def older_and_in_use(s):
    """A stream that is there all the time: content one way, and acknowledgements of TCP."""
    c = s.federation()
    external(c)
    seen_from_here(s)
    c.message(0)
    s.wait(3)
    s.call('client', 'fe1', 80, '', '', 'unknown', 'other').refused()
    in_use(s, c, ('works', 'conforms'))


@scene(WAYS, BOTH)
def older_and_in_use_for_long(s):
    c = s.federation()
    external(c)
    seen_from_here(s)
    for _ in range(4):
        c.stanzas(0, 2)
        s.wait(60)
    in_use(s, c, ('works', 'conforms'))


@scene(('in',), BOTH)
def older_trunk(s):
    """Addresses by options: that the gateway had proved itself cannot be seen."""
    c = s.trunk()
    trunk_up(c)
    seen_from_here(s)
    trunk_talk(c)
    in_use(s, c, ('works', 'cannot-tell'))


@scene(('in',), BOTH)
def older_trunk_beside_one_that_begins(s):
    """The same listener demands a certificate of the one, and has done so of the other."""
    c, d = s.trunk(), s.trunk()
    trunk_up(c)
    seen_from_here(s)
    trunk_up(d)
    trunk_talk(d)
    trunk_talk(c)
    d.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    in_use(s, c, ('works', 'conforms'))


CONFIGURATION = """<xmppedge role="edge" name="edge01.corp.example">
  <external address="%s"/>
  <internal address="%s"><gateway name="fe1.corp.example"/></internal>
  <domain name="corp.example"/>
  <partners><partner domain="pa.example" proxy="%s"/></partners>
</xmppedge>
""" % (HOSTS['edge'], HOSTS['inner'], HOSTS['pa'])


@scene(tls=BOTH)
def older_rows_of_a_configured_edge(s):
    """All three rows, long before the capture began; names and mutual TLS are in the configuration."""
    t, o, i = s.trunk(), s.outbound(), s.inbound('pb', 'pb.example')
    trunk_up(t)
    external(o)
    external(i)
    seen_from_here(s)
    trunk_talk(t)
    o.message(0)
    i.message(0)
    for c in (t, o, i):
        in_use(s, c, ('works', 'conforms'))
    s.partners = [('fe1.corp.example', 'edge01.corp.example'), ('corp.example', 'pa.example'),
                  ('corp.example', HOSTS['pb'])]
    path = s.key_path.replace('.keys', '.xml')
    with open(path, 'w') as f:
        f.write(CONFIGURATION)
    s.options = ['-c', path]


@scene(WAYS, BOTH)
def negotiation_of_which_the_end_is_seen(s):
    """Headers and features alone, inside TLS: whether anything came of it is not known."""
    c = s.federation()
    c.dial()
    c.streams('starttls')
    c.starttls()
    seen_from_here(s)
    c.streams('EXTERNAL dialback')
    unclear(s, c, reached='tcp', **{'from': '', 'to': ''})
