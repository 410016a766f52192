"""gen_fail.py -- scenes of what fails: every cause, in both directions where it can come from both; every violation."""

from gen_cert import EKU_SERVER
from gen_rows import BOTH, PROXY_HEADERS, WAYS, dialback, external, trunk_talk, trunk_up, upto_tls
from gen_talk import HOSTS, NS_TLS, OURS, scene
from gen_wire import ACK, RST

SRV = '_xmpp-server._tcp.pa.example'


def fails(s, c, cause, reached=None, without_keys=None, **more):
    if reached:
        more['reached'] = reached
    c.truth('failed', cause, without_keys=without_keys, **more)
    s.row(c.row, 'fails', 'cannot-tell')


def unclear(s, c, cause='capture-short', **more):
    c.truth('cannot-tell', cause, **more)
    s.row(c.row, 'unclear', 'cannot-tell')


# Without keys what a side says inside TLS is not known: only that it ended the stream before it was ready.
BLIND = {'cause': 'refused-inside-tls'}


def in_view(s, cause):
    """TLS 1.2 shows the certificates, so that the reason may be seen from outside."""
    return dict(BLIND, reached='tls', **({'cause': cause} if s.version == '1.2' else {}))


# ---- names ----

@scene()
def dns_nxdomain(s):
    for name in ('_xmpps-server._tcp.pa.example', SRV):
        s.ask(name, 'SRV', [], rcode=3)
    s.ask('pa.example', 'A', [], rcode=3)
    s.ask('pa.example', 'AAAA', [], rcode=3)
    s.wait(5)
    s.lookup('dns-not-found', 'pa.example')


@scene()
def dns_no_records(s):
    s.ask(SRV, 'SRV', [])
    s.ask('pa.example', 'A', [])
    s.ask('pa.example', 'AAAA', [])
    s.wait(5)
    s.lookup('dns-not-found', 'pa.example')


@scene()
def dns_target_without_address(s):
    s.ask(SRV, 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [], rcode=3)
    s.ask('x.pa.example', 'AAAA', [], rcode=3)
    s.wait(5)
    s.lookup('srv-no-address', 'pa.example', words='*')


@scene()
def dns_target_is_an_address(s):
    """RFC 2782 wants a name; some look the address up as one, others see at once that it is none."""
    for n, target in enumerate((HOSTS['pa'], '2001:db8:a::20')):
        for asked in (False, True):
            domain = 'p%d%d.example' % (n, asked)
            s.ask('_xmpp-server._tcp.' + domain, 'SRV', [(1, 1, 5269, target)])
            if asked:
                s.ask(target, 'A', [], rcode=3)
                s.ask(target, 'AAAA', [], rcode=3)
            s.wait(5)
            s.lookup('srv-address', domain, words='xmpp-server record %s:5269' % target)


@scene()
def dns_target_is_an_alias(s):
    s.ask(SRV, 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [], rcode=3, alias='gone.elsewhere.example')
    s.ask('x.pa.example', 'AAAA', [], alias='gone.elsewhere.example')
    s.wait(5)
    s.lookup('srv-alias', 'pa.example')
    s.lost_may |= {'srv-no-address'}


@scene()
def dns_port_zero(s):
    s.ask(SRV, 'SRV', [(1, 1, 0, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    s.wait(5)
    s.lookup('srv-no-port', 'pa.example', words='xmpp-server record x.pa.example:0')


@scene(('out',))
def dns_one_of_two_targets_is_wrong(s):
    """As long as another target is good, nothing has failed."""
    for n, bad in enumerate(((1, 1, 0, 'x.pa.example'), (1, 1, 5269, HOSTS['pb']))):
        domain = 'p%d.example' % n
        s.ask('_xmpp-server._tcp.' + domain, 'SRV', [bad, (2, 1, 5269, 'y.' + domain)])
        s.ask('y.' + domain, 'A', [HOSTS['pa']])
        c = s.outbound(partner=domain)
        external(c, version='1.2').close()
        c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.row('5269-out', 'works', 'conforms')


def no_such_name(s, domain):
    s.ask('_xmpps-server._tcp.' + domain, 'SRV', [], rcode=3)
    s.ask('_xmpp-server._tcp.' + domain, 'SRV', [], rcode=3)
    s.ask(domain, 'A', [], rcode=3)
    s.ask(domain, 'AAAA', [], rcode=3)
    s.wait(60)


def finds_it(s, domain):
    s.ask('_xmpps-server._tcp.' + domain, 'SRV', [], rcode=3)
    s.ask('_xmpp-server._tcp.' + domain, 'SRV', [(1, 1, 5269, 'x.' + domain)])
    s.ask('x.' + domain, 'A', [HOSTS['pa']])
    s.ask('x.' + domain, 'AAAA', [])
    c = s.outbound(partner=domain)
    external(c, version='1.2').close()
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.wait(60)


@scene(('out',))
def dns_fails_after_it_worked(s):
    finds_it(s, 'pa.example')
    no_such_name(s, 'pa.example')
    s.lookup('dns-not-found', 'pa.example')
    s.row('5269-out', 'works', 'conforms')
    s.lost_may |= {'dns-failed', 'srv-no-address'}


@scene(('out',))
def dns_fails_before_it_works(s):
    no_such_name(s, 'pa.example')
    finds_it(s, 'pa.example')
    s.lookup('dns-not-found', 'pa.example')
    s.row('5269-out', 'works', 'conforms')


@scene(('out',))
def dns_is_silent_after_it_worked(s):
    finds_it(s, 'pa.example')
    s.ask(SRV, 'SRV', None, tries=3, between=3)
    s.wait(30)
    s.lookup('dns-failed', 'pa.example')
    s.row('5269-out', 'works', 'conforms')


@scene(('out',))
def dns_loses_the_address_of_the_target(s):
    """The SRV record is known still, and only the address is asked for again."""
    finds_it(s, 'pa.example')
    s.ask('x.pa.example', 'A', [], rcode=3)
    s.ask('x.pa.example', 'AAAA', [], rcode=3)
    s.wait(30)
    s.lookup('srv-no-address', 'pa.example')
    s.row('5269-out', 'works', 'conforms')
    s.lost_may |= {'dns-not-found'}


@scene(('out',))
def dns_fails_twice(s):
    """Each time is a failure of its own."""
    no_such_name(s, 'pb.example')
    for _ in range(2):
        finds_it(s, 'pa.example')
        no_such_name(s, 'pa.example')
        s.lookup('dns-not-found', 'pa.example')
    s.lookup('dns-not-found', 'pb.example')
    s.row('5269-out', 'works', 'conforms')
    s.lost_may |= {'dns-failed', 'srv-no-address'}


@scene()
def dns_no_service(s):
    s.ask(SRV, 'SRV', [(0, 0, 0, '.')])
    s.wait(5)
    s.lookup('dns-no-service', 'pa.example')


@scene()
def dns_servfail(s):
    for _ in range(2):
        s.ask(SRV, 'SRV', [], rcode=2)
    s.wait(5)
    s.lookup('dns-failed', 'pa.example')


@scene()
def dns_timeout(s):
    s.ask(SRV, 'SRV', None, tries=3, between=3)
    s.wait(5)
    s.ask('_xmpp-server._tcp.pb.example', 'SRV', [(1, 1, 5269, 'x.pb.example')])
    s.ask('x.pb.example', 'A', [HOSTS['pb']])
    c = s.outbound('pb', 'pb.example')
    external(c, version='1.2').close()
    c.truth('worked', reached='stanzas', method='EXTERNAL')
    s.lookup('dns-failed', 'pa.example')
    s.row('5269-out', 'works', 'conforms')


# ---- TCP ----

@scene(WAYS)
def tcp_refused(s):
    c = s.federation()
    c.refused()
    fails(s, c, 'tcp-refused', 'syn', **{'from': '', 'to': ''})


@scene(WAYS)
def tcp_refused_ipv6(s):
    c = s.inbound(caller='pa6', called='edge6') if s.way == 'in' else s.outbound(caller='edge6', called='pa6')
    c.refused()
    fails(s, c, 'tcp-refused', 'syn', **{'from': '', 'to': ''})


@scene(('out',))
def tcp_refused_and_named(s):
    s.ask(SRV, 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [HOSTS['pa']])
    c = s.outbound()
    c.refused()
    fails(s, c, 'tcp-refused', 'syn', **{'from': '', 'domains_by_dns': True})


@scene(WAYS)
def tcp_timeout(s):
    c = s.federation()
    c.unanswered()
    fails(s, c, 'tcp-timeout', 'syn', **{'from': '', 'to': ''})


@scene(WAYS)
def silent_partners_of_unknown_name(s):
    """Two of them, several attempts each: one text for each of them."""
    for _ in range(2):
        for host in ('pa', 'pb'):
            c = s.inbound(host) if s.way == 'in' else s.outbound(host)
            c.unanswered()
            fails(s, c, 'tcp-timeout', 'syn', **{'from': '', 'to': ''})
    s.groups = [('tcp-timeout', 2), ('tcp-timeout', 2)]
    s.partners = [('', HOSTS['pa']), ('', HOSTS['pb'])]


@scene(WAYS, BOTH)
def partner_with_two_addresses(s):
    """One domain, called at two addresses: one partner, one text."""
    for host in ('pa', 'pb'):
        c = s.inbound(host) if s.way == 'in' else s.outbound(host)
        upto_tls(c, 'EXTERNAL')
        c.error(1, 'host-unknown')
        c.shut(1)
        fails(s, c, 'host-unknown', 'stream', without_keys=dict(BLIND, reached='tls'))
    s.groups = [('host-unknown', 2)]
    s.partners = [(OURS, 'pa.example')]


@scene(('in',))
def trunk_timeout(s):
    c = s.trunk()
    c.unanswered()
    fails(s, c, 'tcp-timeout', 'syn', **{'from': '', 'to': ''})


@scene(WAYS)
def tcp_prohibited(s):
    c = s.federation()
    c.syn()
    c.icmp(3, 13)
    fails(s, c, 'tcp-prohibited', 'syn', words='ICMP error from ' + HOSTS['router'], **{'from': '', 'to': ''})


@scene(('out',))
def tcp_prohibited_ipv6(s):
    c = s.outbound(caller='edge6', called='pa6')
    c.syn()
    c.icmp(1, 1)
    fails(s, c, 'tcp-prohibited', 'syn', **{'from': '', 'to': ''})


@scene(WAYS)
def tcp_unreachable(s):
    c = s.federation()
    c.syn()
    c.icmp(3, 1)
    fails(s, c, 'tcp-unreachable', 'syn', **{'from': '', 'to': ''})


@scene(('out',))
def tcp_unreachable_net_ipv6(s):
    c = s.outbound(caller='edge6', called='pa6')
    c.syn()
    c.icmp(1, 0)
    fails(s, c, 'tcp-unreachable', 'syn', **{'from': '', 'to': ''})


@scene(('out',))
def tcp_refused_by_icmp(s):
    c = s.outbound()
    c.syn()
    c.icmp(3, 3)
    fails(s, c, 'tcp-refused', 'syn', **{'from': '', 'to': ''})


@scene(('in',))
def syn_flood_of_one(s):
    """One SYN right before the end of the capture: the answer may come later."""
    c = s.inbound()
    c.syn()
    unclear(s, c, **{'from': '', 'to': ''})


# ---- path MTU ----

@scene(WAYS, BOTH)
def path_mtu_icmp(s):
    """The certificate is the first large packet; a router says that it is too big."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(stop_after=1)
    c.stuck(1, b'\x16\x03\x03\x08\x00' + b'\0' * 2800, times=2)
    c.icmp(3, 4, about=[p for p in s.packets if len(p.payload) > 1000][0], mtu=1280)
    s.packets[-1].target = s.packets[-3].source
    s.wait(10)
    fails(s, c, 'path-mtu')


@scene(WAYS, BOTH)
def path_mtu_black_hole(s):
    """The same without a word: full packets again and again."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(stop_after=1)
    c.stuck(1, b'\x16\x03\x03\x08\x00' + b'\2' + b'\0' * 2800)
    fails(s, c, 'path-mtu')
    s.lost_may |= {'setup-timeout'}


# ---- a connection that is cut ----

@scene(WAYS, BOTH)
def peer_lost(s):
    c = s.federation()
    external(c)
    c.rst(1)
    c.truth('failed', 'peer-lost', reached='stanzas')
    s.row(c.row, 'partly', 'conforms')


@scene(WAYS)
def peer_lost_before_the_stream(s):
    c = s.federation()
    c.dial()
    c.say(0, c.header(0))
    c.rst(1)
    fails(s, c, 'peer-lost', 'tcp')


@scene(WAYS, BOTH)
def idle_cut(s):
    """A firewall has forgotten the connection: what is sent after the pause gets no answer."""
    c = s.federation()
    external(c)
    s.wait(1800)
    c.stuck(0, b'\x17\x03\x03\0\x20' + b'\x55' * 32, times=7, first=1)
    c.truth('failed', 'idle-cut', reached='stanzas')
    s.row(c.row, 'partly', 'conforms')


@scene(WAYS, BOTH)
def idle_cut_with_reset(s):
    c = s.federation()
    external(c)
    s.wait(1800)
    c.stuck(0, b'\x17\x03\x03\0\x20' + b'\x55' * 32, times=0)
    c.rst(1)
    c.truth('failed', 'idle-cut', reached='stanzas')
    s.row(c.row, 'partly', 'conforms')
    s.lost_may |= {'peer-lost'}


# ---- silence ----

@scene(WAYS)
def silent_peer(s):
    c = s.federation()
    c.dial()
    c.say(0, c.header(0))
    s.wait(60)
    c.finish(0)
    fails(s, c, 'silent-peer', 'tcp')


@scene(('in',))
def silent_edge_on_the_trunk(s):
    c = s.trunk()
    c.dial()
    c.say(0, bytes.fromhex('1603010005') + b'\x01\0\0\x01\0')
    s.wait(60)
    c.finish(0)
    fails(s, c, 'silent-peer', 'tcp', **{'from': '', 'to': ''})


@scene(WAYS)
def caller_silent(s):
    """A health check."""
    c = s.federation()
    c.dial()
    c.finish(0)
    unclear(s, c, 'caller-silent', reached='tcp', **{'from': '', 'to': ''})


STRANGERS = (
    ('HTTP: HTTP/1.1 400 Bad Request', 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'),
    ('HTML: <html>', '<html><head><title>400 Bad Request</title></head></html>'),
    ('HTML: <!DOCTYPE html>', '<!DOCTYPE html>\n<html><body>Nothing here</body></html>'),
    ('SSH: SSH-2.0-OpenSSH_9.2', 'SSH-2.0-OpenSSH_9.2\r\n'),
    ('SMTP: 554 5.5.2 no', '554 5.5.2 no\r\n'),
    ('TLS alert: \\x15\\x03\\x01\\x00\\x02\\x02(', b'\x15\x03\x01\0\2\2\x28'),
    ('what is this?', 'what is this?\n'),
)


@scene(WAYS)
def not_xmpp(s):
    """Something else answers: what it said first is told, whatever it was."""
    for words, said in STRANGERS:
        c = s.federation()
        c.dial()
        c.say(0, c.header(0))
        c.say(1, said)
        c.finish(1)
        fails(s, c, 'not-xmpp', words=words, said_by='responder', fault='responder')


@scene(WAYS)
def not_xmpp_calls(s):
    """The same the other way round: something else calls."""
    for words, said in (('HTTP: GET / HTTP/1.1', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'), ('SMTP: EHLO x', 'EHLO x\r\n'),
                        ('RDP: \\x03\\x00\\x00\\x13\\x0e\\xe0', b'\3\0\0\x13\x0e\xe0')):
        c = s.federation()
        c.dial()
        c.say(0, said)
        c.finish(1)
        fails(s, c, 'not-xmpp', words=words, said_by='initiator', fault='initiator', **{'from': '', 'to': ''})


@scene(WAYS)
def not_xmpp_banner(s):
    """A server that talks first, as mail does."""
    c = s.federation()
    c.dial()
    c.say(1, '220 mail.pa.example ESMTP\r\n')
    c.say(0, c.header(0))
    c.say(1, '500 5.5.2 unrecognized command\r\n')
    c.finish(1)
    fails(s, c, 'not-xmpp', words='SMTP or FTP: 220 mail.pa.example ESMTP', said_by='responder')


@scene(WAYS)
def document_type(s):
    """XML says that it is XML: what follows is a stream that is not allowed, not another protocol."""
    c = s.federation()
    c.dial()
    c.say(0, "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><stream:stream>")
    c.say(1, c.header(1))
    c.error(1, 'restricted-xml')
    c.finish(1)
    fails(s, c, 'xml-restricted', 'tcp')


@scene(('in',))
def proxy_header_refused(s):
    """A load balancer says whose the connection is, and the server behind it takes that for XML."""
    for header, words in zip(PROXY_HEADERS, ('PROXY protocol: ' + PROXY_HEADERS[0].decode().strip(), '*')):
        for said in ('', '<stream:error><not-well-formed xmlns="urn:ietf:params:xml:ns:xmpp-streams"/></stream:error>'):
            c = s.inbound(caller='client', called='inner')
            c.dial()
            c.say(0, header)
            c.say(0, c.header(0))
            if said:
                c.say(1, said)
            c.finish(1)
            fails(s, c, 'not-xmpp', words=words, said_by='initiator', proxy='198.51.100.20', forward='')
    s.lost_may |= {'xml-malformed'}


@scene(WAYS)
def bare_stream_error(s):
    """A refusal without a header of its own is the server's word all the same."""
    for condition, cause, fault in (('invalid-namespace', 'bad-namespace', 'responder'),
                                    ('host-unknown', 'host-unknown', 'responder'),
                                    ('resource-constraint', 'limit-connections', 'responder')):
        for declaration in ('', "<?xml version='1.0'?>"):
            c = s.federation()
            c.dial()
            c.say(0, c.header(0))
            if declaration:
                c.say(1, declaration)
            c.error(1, condition)
            c.finish(1)
            fails(s, c, cause, 'tcp', words=condition, said_by='responder', fault=fault)


@scene(WAYS, BOTH)
def bare_stream_error_inside_tls(s):
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls()
    c.say(0, c.header(0))
    c.error(1, 'host-unknown')
    c.shut(1)
    fails(s, c, 'host-unknown', 'tls', words='host-unknown', without_keys=dict(BLIND, words=''))


@scene(WAYS)
def bad_namespace(s):
    c = s.federation()
    c.dial()
    c.say(0, c.header(0, ns='jabber:client'))
    c.say(1, c.header(1))
    c.error(1, 'invalid-namespace')
    c.finish(1)
    fails(s, c, 'bad-namespace')


@scene(WAYS)
def bad_namespace_called(s):
    """5222 answers."""
    c = s.federation()
    c.dial()
    c.say(0, c.header(0))
    c.say(1, c.header(1, ns='jabber:client') + c.features('starttls-required'))
    c.say(0, '</stream:stream>')
    c.finish(0)
    fails(s, c, 'bad-namespace')


# ---- stream errors: (condition, words, cause) ----

def refuses(s, condition, cause, text='', extra='', tls=True, **more):
    """After TLS and the headers the called says the condition."""
    c = s.federation()
    if tls:
        upto_tls(c)
    else:
        c.dial()
        c.streams('starttls')
    c.error(1, condition, text, extra)
    (c.shut if tls else c.finish)(1)
    fails(s, c, cause, 'stream', without_keys=dict(BLIND, reached='tls') if tls else None,
          **more)
    return c


def simple(name, condition, cause, text='', extra='', ways=WAYS, versions=('1.3',)):
    def function(s):
        refuses(s, condition, cause, text, extra)

    def plain(s):
        refuses(s, condition, cause, text, extra, tls=False)
    function.__name__, plain.__name__ = name, name + '_plain'
    scene(ways, versions)(function)
    scene(ways)(plain)


simple('bad_version', 'unsupported-version', 'bad-version')
simple('host_unknown', 'host-unknown', 'host-unknown', 'This server does not serve that domain', versions=BOTH)
simple('host_gone', 'host-gone', 'host-unknown', ways=('out',))
simple('not_well_formed', 'not-well-formed', 'xml-malformed', versions=BOTH)
simple('restricted_xml', 'restricted-xml', 'xml-restricted')
simple('bad_element', 'unsupported-stanza-type', 'bad-element')
simple('bad_address', 'improper-addressing', 'bad-address')
simple('invalid_from', 'invalid-from', 'invalid-from')
simple('not_authorized', 'not-authorized', 'not-authorized', versions=BOTH)
simple('policy_violation', 'policy-violation', 'policy-violation', 'pa.example is not on the list of allowed domains')
simple('blocked', 'policy-violation', 'blocked', 'federation with this domain is blocked for now')
simple('limit_connections', 'resource-constraint', 'limit-connections')
simple('shutdown', 'system-shutdown', 'shutdown')
simple('internal_error', 'internal-server-error', 'peer-stream-error')
simple('invalid_id', 'invalid-id', 'dialback-invalid', ways=('in',))
simple('cert_expired_said', 'not-authorized', 'cert-expired', 'certificate has expired')
simple('cert_untrusted_said', 'policy-violation', 'cert-untrusted', 'unable to get local issuer certificate')
simple('cert_revoked_said', 'not-authorized', 'cert-revoked', 'certificate revoked')
simple('cert_purpose_said', 'not-authorized', 'cert-purpose', 'unsupported certificate purpose', versions=BOTH)
simple('cert_name_said', 'not-authorized', 'cert-name', 'certificate is not valid for this name')
simple('tls_required_said', 'policy-violation', 'tls-required', 'Encryption is required', ways=('out',), versions=())


@scene(WAYS, BOTH)
def error_after_work(s):
    """The stream had worked; a stanza with an address of somebody else ends it."""
    c = s.federation()
    external(c)
    c.message(0, frm='stolen.example')
    c.error(1, 'invalid-from')
    c.shut(1)
    c.truth('failed', 'invalid-from', reached='stanzas', without_keys={'outcome': 'worked', 'cause': 'none'})
    s.row(c.row, 'partly', 'conforms', without_keys=('works', 'conforms'))


@scene(WAYS, BOTH)
def blocked_after_work(s):
    """An administrator blocks the domain while stanzas pass: the row works, and it is said what it was."""
    c = s.federation()
    external(c)
    c.message(0)
    c.error(1, 'policy-violation', 'federation with this domain is blocked for now')
    c.shut(1)
    c.truth('worked', reached='stanzas', setback='blocked', without_keys={'setback': 'none'})
    s.row(c.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def stanza_too_big(s):
    c = s.federation()
    external(c)
    c.message(0, 'y' * 60000)
    c.error(1, 'policy-violation', 'stanza too big', extra="<stanza-too-big xmlns='urn:xmpp:errors'/>")
    c.shut(1)
    c.truth('failed', 'stanza-too-big', reached='stanzas', without_keys={'outcome': 'worked', 'cause': 'none'})
    s.row(c.row, 'partly', 'conforms', without_keys=('works', 'conforms'))


@scene(WAYS)
def malformed_and_silent(s):
    """Bad XML of the caller; the called just ends the connection."""
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.say(0, '<db:result from="a" to="b">x</db:resul>')
    c.finish(1)
    fails(s, c, 'xml-malformed', 'stream')


@scene(WAYS)
def comment_and_silent(s):
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.say(0, '<!-- hello -->')
    c.finish(1)
    fails(s, c, 'xml-restricted', 'stream')


def unasked(s):
    """The called ended it: when that is our side, a partner is not asked why."""
    return {'forward': ''} if s.way == 'in' else {}


@scene(WAYS, BOTH)
def setup_timeout(s):
    """Nobody goes on after the features."""
    c = s.federation()
    upto_tls(c, 'EXTERNAL')
    s.wait(60)
    c.error(1, 'connection-timeout')
    c.shut(1)
    fails(s, c, 'setup-timeout', 'stream', without_keys=dict(BLIND, reached='tls'), **unasked(s))


@scene(WAYS)
def setup_timeout_plain(s):
    c = s.federation()
    c.dial()
    c.streams('starttls')
    s.wait(60)
    c.error(1, 'connection-timeout')
    c.finish(1)
    fails(s, c, 'setup-timeout', 'stream', **unasked(s))


@scene(WAYS)
def tls_handshake_hangs(s):
    c = s.federation()
    c.dial()
    c.streams('starttls')
    c.starttls(version='1.2', stop_after=1)
    s.wait(60)
    c.packet(0, 16)
    fails(s, c, 'setup-timeout')


@scene(WAYS, ('1.3',))
def stalls_in_the_handshake_and_goes(s):
    """The caller says nothing to the flight of the called, and closes; the alert that answers is no cause."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(stop_after=2)
    s.wait(7)
    c.fin(0)
    c.send(1, b'\x17\x03\x03\0\x13' + bytes(range(19)))
    c.fin(1)
    fails(s, c, 'setup-timeout', 'header')


@scene(WAYS, ('1.2',))
def stalls_in_the_handshake_and_goes_12(s):
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(stop_after=2)
    s.wait(7)
    c.fin(0)
    c.send(1, b'\x15\x03\x03\0\2\2\x28')
    c.fin(1)
    fails(s, c, 'setup-timeout', 'header')


@scene(WAYS, BOTH)
def complains_after_the_end(s):
    """The caller goes in the middle of the handshake; what the called says of it then is no cause."""
    for reset in (False, True):
        c = s.federation()
        c.dial()
        c.streams('starttls-required')
        c.starttls(stop_after=2)
        (c.rst if reset else c.fin)(0)
        if s.version == '1.2':
            c.send(1, b'\x15\x03\x03\0\2\2\x2a')
        else:
            c.send(1, b'\x17\x03\x03\0\x13' + bytes(range(19)))
        c.rst(1)
        fails(s, c, 'tls-failed', 'header', words='', closer='initiator')
    s.lost_may |= {'cert-invalid'}           # without the end of the caller


@scene(WAYS)
def error_after_the_end(s):
    """The called goes without a word; that the caller complains of it then is no reason."""
    c = s.federation()
    c.dial()
    c.streams('starttls')
    c.fin(1)
    c.error(0, 'undefined-condition', 'the connection was closed')
    c.fin(0)
    fails(s, c, 'crash-in-negotiation', 'stream', words='', fault='responder')
    s.lost_may |= {'peer-stream-error'}      # of the caller alone


@scene(WAYS, BOTH)
def reset_from_the_path(s):
    """A box on the way cuts the connection at the ClientHello, to both ends; its TTL fits neither of them."""
    for where in range(3):
        c = s.federation()
        c.ttl = (64, 57)
        c.dial()
        c.say(0, c.header(0))
        if where > 0:
            c.say(1, c.header(1) + c.features('starttls'))
        if where == 1:
            c.say(0, "<starttls xmlns='%s'/>" % NS_TLS)
        if where > 1:
            c.starttls(stop_after=1)
        late = c.header(1) + c.features('starttls'), "<proceed xmlns='%s'/>" % NS_TLS, '\x16\x03\x03\0\x04'
        c.packet(1, RST, ttl=250)
        s.wait(0.01)
        c.packet(0, RST, ttl=251)
        s.wait(0.02)
        c.packet(1, ACK, late[where].encode())
        s.wait(0.01)
        c.packet(0, RST)
        s.wait(0.1)
        fails(s, c, 'middlebox-reset', words='', fault=None)
    s.lost_may |= {'peer-lost', 'crash-in-negotiation', 'silent-peer', 'tls-failed', 'tls-refused'}


@scene(WAYS, BOTH)
def crash(s):
    """The called drops the connection in place of an answer to <auth/>."""
    c = s.federation()
    upto_tls(c, 'EXTERNAL')
    c.say(0, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>Y29ycC5leGFtcGxl</auth>")
    c.finish(1)
    fails(s, c, 'crash-in-negotiation', 'stream', without_keys=dict(BLIND, reached='tls'))


@scene(WAYS)
def crash_on_the_header(s):
    c = s.federation()
    c.dial()
    c.say(0, c.header(0))
    c.finish(1)
    fails(s, c, 'crash-in-negotiation', 'tcp')


# ---- TLS ----

@scene(WAYS)
def tls_required(s):
    """A dialback key on a plain stream where TLS is required."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required dialback')
    c.key()
    c.error(1, 'policy-violation', 'Use of STARTTLS required')
    c.finish(1)
    fails(s, c, 'tls-required', 'stream')


@scene(WAYS)
def tls_required_and_silent(s):
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.key()
    s.wait(30)
    c.finish(1)
    fails(s, c, 'tls-required', 'stream')


@scene(WAYS)
def tls_not_offered(s):
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.finish(0)
    fails(s, c, 'tls-not-offered', 'stream')


@scene(WAYS)
def tls_refused(s):
    c = s.federation()
    c.dial()
    c.streams('starttls')
    c.say(0, "<starttls xmlns='%s'/>" % NS_TLS)
    c.say(1, "<failure xmlns='%s'/></stream:stream>" % NS_TLS)
    c.finish(1)
    fails(s, c, 'tls-refused', 'stream')


@scene(WAYS)
def tls_version(s):
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(versions=(('1.2', '1.2'), ('1.3', '1.3')))
    c.finish(1)
    fails(s, c, 'tls-version', 'header')


@scene(WAYS, BOTH)
def tls_no_common_cipher(s):
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    if s.version == '1.2':
        c.starttls(ciphers=('ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-CHACHA20-POLY1305'))
    else:
        c.starttls(version='1.2', ciphers=('ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-GCM-SHA256'), alert=(1, 71))
    c.finish(1)
    fails(s, c, 'tls-no-common-cipher', 'header')
    s.lost_may |= {'tls-failed'}


@scene(WAYS)
def tls_failed(s):
    """A bad record in the middle of the handshake."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(version='1.2', server_cert=s.ca.leaf(c.domain[1]), verify=True, ask='none', trust=(), client_cert=False,
               stop_after=2)
    c.send(0, b'\x15\x03\x03\0\2\2\x33')      # decrypt_error
    c.finish(0)
    fails(s, c, 'tls-failed', 'header')


@scene(WAYS)
def tls_failed_without_alert(s):
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(version='1.2', stop_after=2)
    c.finish(0)
    fails(s, c, 'tls-failed', 'header')


@scene(WAYS)
def tls_host_unknown(s):
    """unrecognized_name: the server does not know the domain in SNI."""
    c = s.federation()
    c.dial()
    c.handshake(version='1.2', stop_after=1, alpn='xmpp-server')
    c.send(1, b'\x15\x03\x03\0\2\2\x70')
    c.finish(1)
    fails(s, c, 'host-unknown', **{'from': ''})


# ---- certificates: by alert ----

def bad_client(s, cause, alert=None, leaf=None, blind=None, ask='required', check_time=False, **more):
    """The called refuses the certificate of the caller.  TLS 1.3 encrypts that: what can be seen is an alert."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    cert = leaf(c.domain[0]) if leaf else False if leaf is False else True
    c.starttls(ask=ask, client_cert=cert, alert=(1, alert) if alert else None, check_time=check_time, **more)
    c.finish(1)
    fails(s, c, cause, without_keys={'cause': blind or 'cert-invalid'} if s.version == '1.3' else None)
    s.lost_may |= {'cert-invalid'}


def bad_server(s, cause, leaf, alert=None, check_time=False, **more):
    """The caller refuses the certificate of the called."""
    c = s.federation()
    c.dial()
    c.streams('starttls-required')
    c.starttls(verify=True, server_cert=leaf(c.domain[1]), alert=(0, alert) if alert else None, check_time=check_time, **more)
    c.finish(0)
    fails(s, c, cause)         # in TLS 1.3 too: OpenSSL says it before it encrypts
    s.lost_may |= {'cert-invalid'}


@scene(WAYS, BOTH)
def cert_missing(s):
    bad_client(s, 'cert-missing', leaf=False, alert=None)
    s.lost_may |= {'tls-failed'}                 # OpenSSL says handshake_failure in TLS 1.2


@scene(WAYS, BOTH)
def cert_missing_alert_116(s):
    bad_client(s, 'cert-missing', leaf=False, alert=116)


@scene(WAYS, BOTH)
def cert_expired(s):
    bad_client(s, 'cert-expired', leaf=lambda d: s.ca.leaf(d, first=(2025, 6, 1), last=(2026, 3, 1)), check_time=True)


@scene(WAYS, BOTH)
def cert_expired_server(s):
    bad_server(s, 'cert-expired', lambda d: s.ca.leaf(d, first=(2025, 6, 1), last=(2026, 3, 1)), check_time=True)


@scene(WAYS, BOTH)
def cert_not_yet_valid(s):
    bad_client(s, 'cert-not-yet-valid', leaf=lambda d: s.ca.leaf(d, first=(2046, 4, 1)), check_time=True)


@scene(WAYS, BOTH)
def cert_not_yet_valid_server(s):
    bad_server(s, 'cert-not-yet-valid', lambda d: s.ca.leaf(d, first=(2046, 4, 1)), check_time=True)
    if s.version == '1.3':                       # bad_certificate, and the certificate cannot be seen
        s.calls[-1].truth('failed', 'cert-not-yet-valid', without_keys={'cause': 'cert-invalid'})


@scene(WAYS, BOTH)
def cert_untrusted(s):
    bad_client(s, 'cert-untrusted', leaf=lambda d: s.ca.leaf(d, self_signed=True))


@scene(WAYS, BOTH)
def cert_untrusted_server(s):
    bad_server(s, 'cert-untrusted', lambda d: s.ca.leaf(d, self_signed=True))


@scene(WAYS, BOTH)
def cert_purpose(s):
    """A public certificate of 2026: serverAuth only."""
    bad_client(s, 'cert-purpose', leaf=lambda d: s.ca.leaf(d, usage=(EKU_SERVER,)))


@scene(WAYS, ('1.2',))
def cert_revoked(s):
    bad_client(s, 'cert-revoked', alert=44, leaf=lambda d: s.ca.leaf(d, self_signed=True))


@scene(WAYS, ('1.2',))
def cert_name(s):
    """bad_certificate, and the certificate names somebody else."""
    bad_client(s, 'cert-name', alert=42, leaf=lambda d: s.ca.leaf('elsewhere.example', self_signed=True))
    s.lost_may |= {'cert-untrusted'}      # the domain is in the headers


@scene(WAYS, ('1.2',))
def cert_invalid(s):
    """certificate_unknown, and nothing is wrong with it."""
    bad_server(s, 'cert-invalid', lambda d: s.ca.leaf(d), stop_after=2)
    c = s.calls[-1]
    del s.packets[-3:]
    c.next[0] -= 1
    c.next[1] -= 1
    c.send(0, b'\x15\x03\x03\0\2\2\x2e')
    c.finish(0)


@scene(('in',), BOTH)
def trunk_cert_missing(s):
    c = s.trunk()
    c.dial()
    c.handshake(ask='required', client_cert=False, alpn='xmpp-server')
    c.finish(1)
    fails(s, c, 'cert-missing', without_keys={'from': '', 'cause': 'cert-invalid'} if s.version == '1.3' else None,
          **{'from': ''})
    s.lost_may |= {'cert-invalid', 'tls-failed'}


@scene(('in',), BOTH)
def trunk_cert_untrusted(s):
    c = s.trunk()
    c.dial()
    c.handshake(ask='required', client_cert=s.ca.leaf(c.domain[0], self_signed=True), alpn='xmpp-server')
    c.finish(1)
    fails(s, c, 'cert-untrusted', without_keys={'cause': 'cert-invalid'} if s.version == '1.3' else None,
          **{'from': ''})
    s.lost_may |= {'cert-invalid'}


@scene(('in',), BOTH)
def trunk_wrong_gateway(s):
    """The edge knows the authority and not the name."""
    c = s.trunk()
    c.dial()
    c.handshake(ask='required', alpn='xmpp-server')
    c.streams('EXTERNAL')
    c.external(False)
    c.error(1, 'not-authorized')
    c.shut(1)
    fails(s, c, 'sasl-refused', 'stream', without_keys=dict(BLIND, **{'from': '', 'reached': 'tls'}))


@scene(('in',), BOTH)
def trunk_domain_refused(s):
    c = s.trunk()
    c.dial()
    c.handshake(ask='required', alpn='xmpp-server')
    c.streams('EXTERNAL')
    c.external()
    c.streams('trunk sm')
    c.say(0, "<trunk xmlns='urn:xmppedge:trunk:0'><domain>wrong.example</domain></trunk>")
    c.error(1, 'host-unknown', 'wrong.example is not a domain of this edge')
    c.shut(1)
    c.truth('failed', 'host-unknown', reached='authenticated',
            without_keys={'from': '', 'outcome': 'worked', 'cause': 'none'})
    s.row('23456-in', 'partly', 'conforms', without_keys=('works', 'conforms'))


# ---- authentication ----

@scene(WAYS, BOTH)
def sasl_refused(s):
    c = s.federation()
    upto_tls(c, 'EXTERNAL')
    c.external(False)
    c.say(1, '</stream:stream>')
    c.shut(1)
    fails(s, c, 'sasl-refused', 'stream', without_keys=dict(BLIND, reached='tls'))


@scene(WAYS, BOTH)
def sasl_refused_name(s):
    """EXTERNAL fails, and the certificate of the caller names another domain."""
    c = s.federation()
    upto_tls(c, 'EXTERNAL', client_cert=s.ca.leaf('elsewhere.example'))
    c.external(False)
    c.say(1, '</stream:stream>')
    c.shut(1)
    fails(s, c, 'cert-name', 'stream', without_keys=in_view(s, 'cert-name'))


@scene(WAYS, BOTH)
def caller_dislikes_the_certificate(s):
    """The caller reads the features and leaves: the certificate of the called names another domain."""
    c = s.federation()
    upto_tls(c, 'EXTERNAL', server_cert=s.ca.leaf('elsewhere.example'))
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.shut(0)
    fails(s, c, 'cert-name', 'stream', without_keys=in_view(s, 'cert-name'))


@scene(WAYS, BOTH)
def no_auth_method(s):
    c = s.federation()
    upto_tls(c, '')
    c.say(0, '</stream:stream>')
    c.say(1, '</stream:stream>')
    c.shut(0)
    fails(s, c, 'no-auth-method', 'stream', without_keys=dict(BLIND, reached='tls'))


@scene(WAYS, ('', '1.2', '1.3'))
def dialback_invalid(s):
    """The authoritative server does not know the key."""
    c, v = dialback(s, s.way, s.version, plain=not s.version, kind='invalid')
    c.close(1) if s.version else (c.say(1, '</stream:stream>'), c.finish(1))
    fails(s, c, 'dialback-invalid', without_keys=BLIND if s.version else None)
    v.truth('worked', reached='authenticated', method='verify', verify_only=True)
    s.row(v.row, 'works', 'conforms')


@scene(WAYS, BOTH)
def dialback_error(s):
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.key()
    s.wait(2)
    c.answer('error', condition='item-not-found')
    c.close(0)
    fails(s, c, 'dialback-error', 'stream', without_keys=dict(BLIND, reached='tls', forward='*'), **unasked(s))


@scene(WAYS, BOTH)
def dialback_timeout(s):
    c = s.federation()
    upto_tls(c, client_cert=False)
    c.key()
    s.wait(40)
    c.close(0)
    fails(s, c, 'dialback-timeout', 'stream', without_keys=dict(BLIND, reached='tls'))


@scene(WAYS)
def dialback_timeout_plain(s):
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.key()
    s.wait(40)
    c.say(0, '</stream:stream>')
    c.finish(0)
    fails(s, c, 'dialback-timeout', 'stream')


@scene(WAYS, ('', '1.2', '1.3'))
def dialback_unreachable(s):
    """The called server cannot reach the authoritative one."""
    make, back = (s.inbound, s.outbound) if s.way == 'in' else (s.outbound, s.inbound)
    c, v = make(), back()
    if s.version:
        upto_tls(c, client_cert=False)
    else:
        c.dial()
        c.streams('dialback')
    c.key()
    v.unanswered(5)
    if s.version:
        c.close(0)
    else:
        c.say(0, '</stream:stream>')
        c.finish(0)
    fails(s, c, 'dialback-unreachable', without_keys=BLIND if s.version else None)
    fails(s, v, 'tcp-timeout', **{'from': '', 'to': ''})
    s.lost_may |= {'dialback-timeout'}


@scene(WAYS)
def dialback_unreachable_said(s):
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.key()
    s.wait(3)
    c.error(1, 'remote-connection-failed')
    c.finish(1)
    fails(s, c, 'dialback-unreachable', 'stream')


# ---- the capture is too short ----

@scene(WAYS, BOTH)
def capture_short(s):
    c = s.federation()
    upto_tls(c, 'EXTERNAL')
    unclear(s, c, reached='stream', without_keys={'reached': 'tls'})


@scene(WAYS)
def capture_short_plain(s):
    c = s.federation()
    c.dial()
    c.streams('starttls')
    unclear(s, c, reached='stream')


# ---- violations ----

@scene(('out',), BOTH)
def edge_opens_23456(s):
    c = s.call('inner', 'fe1', 23456, OURS, 'fe1.corp.example', 'out', '23456-in')
    c.dial()
    c.handshake(ask='required', alpn='xmpp-server')
    c.streams('EXTERNAL')
    c.external()
    c.streams('')
    c.stanzas(0, 2).close()
    c.truth('worked', violations=['edge-to-inside', 'edge-opened-23456'], without_keys={'from': ''})
    s.row('23456-in', 'works', 'violates')


@scene(('out',))
def edge_opens_23456_in_vain(s):
    """The attempt alone breaks the rule."""
    c = s.call('edge', 'fe1', 23456, OURS, 'fe1.corp.example', 'out', '23456-in')
    c.refused()
    c.truth('failed', 'tcp-refused', violations=['edge-to-inside', 'edge-opened-23456'],
            **{'from': '', 'to': ''})
    s.row('23456-in', 'fails', 'violates')


@scene(('out',), BOTH)
def dns_leads_into_the_lan(s):
    """A partner's records name an address of the LAN, and XMPP is spoken there."""
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(0, 0, 5269, 'xmpp.pa.example')])
    s.ask('xmpp.pa.example', 'A', [HOSTS['client']])
    c = s.outbound(called='client')
    external(c).close()
    c.truth('worked', violations=['edge-to-inside'])
    s.row('5269-out', 'works', 'violates')


@scene(('out',))
def dns_leads_to_another_service_of_the_lan(s):
    """Whatever listens there: this is no federation, and the worst that there is."""
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(0, 0, 8080, 'xmpp.pa.example')])
    s.ask('xmpp.pa.example', 'A', [HOSTS['client']])
    c = s.call('edge', 'client', 8080, OURS, 'pa.example', 'out', 'other')
    c.dial()
    c.say(1, 'SSH-2.0-OpenSSH\r\n')
    c.shut(1)
    s.row('other', 'unclear', 'violates')


@scene(('out',))
def edge_knocks_at_the_lan(s):
    """The attempt alone breaks the rule, on any port, and each of them."""
    for port in (22, 445, 445):
        s.call('inner', 'fe1', port, OURS, '', 'out', 'other').refused()
    s.row('other', 'unclear', 'violates')


@scene(('out',))
def edge_calls_its_own_trunk(s):
    c = s.call('edge', 'inner', 23456, OURS, '', 'in', '23456-in')
    c.refused()
    c.truth('failed', 'tcp-refused', violations=['edge-to-inside'], **{'from': '', 'to': ''})
    s.row('23456-in', 'fails', 'violates')


@scene(('out',), options=['--external', HOSTS['inner'], '--internal', HOSTS['inner']])
def partners_of_a_lab_are_not_inside(s):
    """Where the external address is a private one, private addresses play the Internet."""
    c = s.outbound(caller='inner', called='client')
    external(c, version='1.2').close()
    c.truth('worked')
    s.row('5269-out', 'works', 'conforms')


@scene(('out',), options=['--external', HOSTS['lo2'], '--internal', HOSTS['lo3']])
def partners_on_the_same_machine_are_not_inside(s):
    """Everything of a lab on loopback addresses calls from the same one: the gateway, too."""
    t = s.call('lo1', 'lo3', 23456, 'edge01.corp.example', 'fe1.corp.example', 'in', '23456-in')
    trunk_up(t, version='1.2')
    trunk_talk(t)
    t.close()
    t.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    c = s.outbound(caller='lo2', called='lo1')
    external(c, version='1.2').close()
    c.truth('worked')
    s.row('5269-out', 'works', 'conforms')
    s.row('23456-in', 'works', 'conforms')


@scene(('in',), BOTH)
def trunk_on_external(s):
    c = s.call('stranger', 'edge', 23456, 'edge01.corp.example', 'fe1.corp.example', 'in', '23456-in')
    trunk_up(c)
    trunk_talk(c)
    c.close()
    c.truth('worked', violations=['23456-on-external'], without_keys={'from': ''})
    s.row('23456-in', 'works', 'violates')


@scene(('in',))
def trunk_on_external_refused(s):
    """Nobody serves there: all is as it should be."""
    c = s.call('stranger', 'edge', 23456, '', '', 'in', '23456-in')
    c.refused()
    fails(s, c, 'tcp-refused', 'syn')


@scene(('in',), BOTH)
def trunk_without_client_certificate(s):
    """An edge that asks for no certificate and takes the gateway at its word."""
    c = s.trunk()
    c.dial()
    c.handshake(ask='none', alpn='xmpp-server')
    c.streams('EXTERNAL')
    c.external()
    c.streams('trunk sm')
    c.say(0, "<trunk xmlns='urn:xmppedge:trunk:0'><domain>corp.example</domain></trunk>")
    c.say(1, "<trunk xmlns='urn:xmppedge:trunk:0' max-bytes='262144' idle-seconds='600'/>")
    trunk_talk(c)
    c.close()
    c.truth('worked', violations=['23456-without-mutual-tls'],
            without_keys={'from': '', 'violations': [], 'suspected': ['23456-without-mutual-tls']})
    s.row('23456-in', 'works', 'violates', without_keys=('works', 'cannot-tell'))


@scene(('in',))
def trunk_without_tls(s):
    c = s.trunk()
    c.dial()
    c.streams('dialback')
    c.key()
    c.answer()
    c.stanzas(0, 2).close()
    c.truth('worked', violations=['23456-without-tls'])
    s.row('23456-in', 'works', 'violates')


@scene(('out',), BOTH)
def other_source(s):
    """Row 2 from the internal address."""
    c = s.outbound(caller='inner')
    external(c).close()
    c.truth('worked', violations=['5269-from-other-address'])
    s.row('5269-out', 'works', 'violates')


@scene(('in',), BOTH)
def other_target(s):
    """Row 1 on the internal address."""
    c = s.inbound(called='inner')
    external(c).close()
    c.truth('worked', violations=['5269-on-other-address'])
    s.row('5269-in', 'works', 'violates')


@scene(WAYS, BOTH)
def unlisted_port(s):
    c = s.call('pa', 'edge', 5299, OURS, 'pa.example', 'in', 'other') if s.way == 'in' else s.outbound(port=5270)
    if s.way == 'in':
        external(c)
    else:
        c.dial()
        c.handshake(alpn='xmpp-server')
        c.streams('EXTERNAL')
        c.external()
        c.streams('')
        c.stanzas(0, 2)
    c.close()
    if s.way == 'in':
        c.truth('worked', violations=['xmpp-on-unlisted-port'])
        s.row('other', 'works', 'violates')
    else:                                        # an SRV record that is not in the capture may have led there
        c.truth('worked', suspected=['xmpp-on-unlisted-port'], without_keys={'from': ''})
        s.row('other', 'works', 'cannot-tell')


@scene(WAYS)
def plain_stanzas(s):
    """Dialback without TLS in a direction where it may be permitted: what crossed is told all the same."""
    c = s.federation()
    c.dial()
    c.streams('dialback')
    c.key()
    c.answer()
    c.stanzas(0, 2)
    c.truth('worked', violations=['plain-stanzas'])
    s.row(c.row, 'works', 'violates')


# ---- addresses are inferred: suspicions only ----

@scene(('out',), options=[])
def inferred_edge_opens_23456(s):
    for host in ('pa', 'pb'):
        c = s.inbound(host, host + '.example')
        external(c, version='1.2').close()
        c.truth('worked')
    c = s.call('edge', 'fe1', 23456, OURS, 'fe1.corp.example', 'out', '23456-in')
    c.dial()
    c.handshake(version='1.2', ask='required', alpn='xmpp-server')
    c.streams('EXTERNAL')
    c.external()
    c.streams('')
    c.stanzas(0, 2).close()
    # whoever serves 23456 seems to be the edge, which then calls itself
    c.truth('worked', direction='in', suspected=['edge-to-inside'], without_keys={'from': ''})
    s.row('5269-in', 'works', 'conforms')
    s.row('23456-in', 'works', 'cannot-tell')


@scene(('in',), options=['--external', HOSTS['edge'], '--internal', HOSTS['lo3']])
def trunk_of_another_edge(s):
    """An internal address is given, and whoever serves 23456 has another one."""
    t = s.trunk()
    trunk_up(t, version='1.2')
    trunk_talk(t)
    t.close()
    t.truth('worked', direction='unknown', reached='stanzas', method='trunk',
            without_keys={'from': '', 'method': 'EXTERNAL'})
    s.row('23456-in', 'works', 'cannot-tell')


@scene(('in',), options=['--external', HOSTS['edge']])
def external_only(s):
    """Only the external address is given; the internal one is inferred."""
    t = s.trunk()
    trunk_up(t, version='1.2')
    trunk_talk(t)
    t.close()
    t.truth('worked', reached='stanzas', method='trunk', without_keys={'from': '', 'method': 'EXTERNAL'})
    s.row('23456-in', 'works', 'conforms')
