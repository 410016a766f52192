#!/usr/bin/env python3
"""20-failures.t -- everything that can be refused or go wrong, seen from three sides.

Every case looks at the error that the sender gets, at what is said on the wire, and at the reason word
in the log of the edge (or the gateway).  Limits and time-outs are set so short that a case takes a
second or two.  Partners are played by the test; the inner server is a real Prosody with the user bob.
"""
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Edge, Gateway, Pki, begin, binary, shift_clock, shifted_clock   # noqa: E402
from lab import Host, Lab, wait_until                                          # noqa: E402
from scene import LIMITS, World, call, knock, make_partners, secure_call, trusted_call   # noqa: E402
from tap import check, equal, test, tests                                      # noqa: E402
from wire import Forwarder                                                     # noqa: E402
from xmpp import NS_DB, NS_TLS, Client, Closed, Peer, Stream, Timeout, body, child   # noqa: E402
from xmpp import client_context, error, ids, local, message, offers, show      # noqa: E402


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.outside = lab.resolver('outside', lab.ip(2))
    w.inside = lab.resolver('inside', lab.ip(3))
    w.outside.server('corp.example', lab.ip(21))
    w.inside.wildcard('example', lab.ip(41))
    w.corp = lab.prosody('corp', lab.ip(51), w.inside.start(), [Host('corp.example', users=['bob'])])
    w.policies = make_partners(w)
    w.outside.start()
    w.border = Border(lab, pki, w.outside, ['corp.example'], w.policies,
                      [w.corp.s2s + (['corp.example'], 'optional')],
                      edge_limits=LIMITS,
                      gateway_limits=dict(LIMITS, **{'queue-stanzas': 1000, 'queue-bytes': '1M'}))
    w.border.edge.gateways.append('fe02.corp.example')
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.corp_cert = w.edge.domains['corp.example']
    w.next_ip = 61          # and their internal addresses from 161
    lab.wait_ready(w.corp)
    w.border.start()
    w.bob = Client('bob@corp.example', w.corp)
    return w


def another_edge(w, resolver=None, **limits):
    """An edge of its own for limits that would disturb the other tests; it has no gateway."""
    n, w.next_ip = w.next_ip, w.next_ip + 1
    more = dict(LIMITS, **{k.replace('_', '-'): v for k, v in limits.items()})
    edge = Edge(w.lab, 'edge%d' % n, w.lab.ip(n), w.lab.ip(n + 100), w.pki, resolver or w.outside,
                {'corp.example': w.corp_cert}, w.policies, limits=more)
    return edge.start()


# ---- what the tests do again and again ---------------------------------------------------------

def fresh(w):
    w.border.forget_logs()


def said_well(found, condition, type):
    """A stanza error in the words of the contract: condition, type, and a text without addresses."""
    equal((found.condition, found.type), (condition, type), 'stanza error')
    check(found.text, 'the error has no text')
    check(not re.search(r'\d+\.\d+\.\d+\.\d+', found.text), 'an address in the text: ' + found.text)


def bob_fails(w, domain, condition, type, why):
    fresh(w)
    id = 'b%d' % next(ids)
    w.bob.message('x@' + domain, 'hello', id=id)
    found = w.bob.wait_error(id)
    said_well(found, condition, type)
    w.edge.wait_log(None, why=why, **({} if why == 'partner-unlisted' else {'remote': domain}))
    hop = 'node' if why == 'partner-unlisted' else 'resolver' if why.startswith('dns-') else 'partner'
    w.edge.wait_log('bounce', why=why, hop=hop)
    w.gateway.wait_log('far-bounce', why=why, hop=hop, node=r'edge01\.corp\.example', to=domain)
    equal("the partner's server" in found.text, hop == 'partner', 'who is meant: ' + found.text)


def ends_with(stream, condition, edge, why, seconds=5, **more):
    """The stream ends with this stream error, and the log gives this reason."""
    equal(stream.wait_end(seconds), condition, 'stream error')
    edge.wait_log(None, why=why, **more)


# ---- bob writes to somebody who cannot be reached ----------------------------------------------

NOT_FOUND = ('remote-server-not-found', 'cancel')
TIMEOUT = ('remote-server-timeout', 'wait')

OUTGOING = [
    ('is not on the list', 'unlisted.example', ('not-allowed', 'cancel'), 'partner-unlisted'),
    ('does not exist in DNS', 'nxdomain.example', NOT_FOUND, 'dns-not-found'),
    ('says with the SRV target "." that there is no service', 'noservice.example', NOT_FOUND,
     'dns-no-service'),
    ('is not known because the resolver fails', 'nodns.example', TIMEOUT, 'dns-failed'),
    ('refuses the connection', 'closed.example', NOT_FOUND, 'tcp-refused'),
    ('does not answer the connection', 'deaf.example', TIMEOUT, 'tcp-timeout'),
    ('accepts the connection and is silent', 'silent.example', TIMEOUT, 'attempt-timeout'),
    ('shows an expired certificate', 'expired.example', TIMEOUT, 'cert-expired'),
    ('shows a certificate for another name', 'wrongname.example', TIMEOUT, 'cert-name'),
    ('shows a certificate of an unknown authority', 'untrusted.example', TIMEOUT, 'cert-untrusted'),
    ('shows a self-signed certificate', 'selfsigned.example', TIMEOUT, 'cert-untrusted'),
    ('has no TLS although it is required', 'notls.example', TIMEOUT, 'tls-not-offered'),
    ('finds our dialback key invalid', 'dbinvalid.example', ('internal-server-error', 'wait'),
     'dialback-invalid'),
    ('does not answer our dialback key', 'dbsilent.example', TIMEOUT, 'dialback-timeout'),
    ('answers our dialback key with an error', 'dberror.example', TIMEOUT, 'dialback-error'),
]


def outgoing(domain, how, why):
    return lambda w: bob_fails(w, domain, how[0], how[1], why)


for what, domain, how, why in OUTGOING:
    function = outgoing(domain, how, why)
    function.sentence = 'a message to a partner that %s comes back with the reason' % what
    tests.append(function)


@test
def a_ping_and_the_log_tell_what_could_not_be_reached_and_where(w):
    w.edge.forget_log()
    status, said = w.edge.command('ping', w.edge.path, 'closed.example', seconds=70)
    equal(status, 1, said)
    check('tcp-refused' in said and '\nwhat to do: Check that the server runs' in said, said)
    w.edge.wait_log('s2s-out-closed', why='tcp-refused', peer=r'127\.\d+\.\d+\.\d+:\d+')
    status, said = w.edge.command('ping', w.edge.path, 'unlisted.example', seconds=70)
    check(status == 1 and 'partner-unlisted' in said, said)
    [pair] = [p for p in w.edge.status_json()['pairs'] if p['to'] == 'unlisted.example'][:1]
    equal(pair['last_error'], 'partner-unlisted')
    check('<partner>' in pair['remedy'], pair)
    told = ' '.join(w.edge.status().split())
    check('partner-unlisted, this domain is not on the list of allowed partners; what to do: Add a <partner>' in told, told)


@test
def a_ping_that_is_answered_with_an_error_tells_which(w):
    s = trusted_call(w)
    w.raw.on_stanza = lambda iq: s.send(
        "<iq type='error' id='%s' from='raw.example' to='%s'><error type='cancel'><service-unavailable "
        "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>" % (iq.get('id'), iq.get('from')))
    try:
        status, said = w.edge.command('ping', w.edge.path, 'raw.example', seconds=70)
    finally:
        w.raw.on_stanza = None
    check(status == 1 and 'ping-error' in said and 'service-unavailable' in said, said)


@test
def a_gateway_pings_its_inner_server_in_its_own_name(w):
    status, said = w.gateway.command('ping', w.gateway.path, 'corp.example', seconds=70)
    equal(status, 0, said)
    check(said.startswith('ok '), said)


@test
def an_iq_is_bounced_and_an_error_is_not(w):
    answer = w.bob.iq('x@closed.example', "<ping xmlns='urn:xmpp:ping'/>")
    equal(error(answer)[:2], NOT_FOUND, 'iq error')
    fresh(w)
    w.bob.send("<message to='x@closed.example' type='error' id='e1'><body>no answer, please</body>"
               "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
    id = 'b%d' % next(ids)
    w.bob.message('x@closed.example', 'after it', id=id)
    w.bob.wait_error(id)
    check(w.bob.stream.find(lambda s: s.get('id') == 'e1') is None, 'an error was answered with an error')


# ---- partners that come in ---------------------------------------------------------------------

@test
def a_domain_that_is_not_listed_is_refused_with_an_explanation(w):
    fresh(w)
    s = Stream.dial(w.edge.external)
    s.open('unlisted.example', 'corp.example')
    ends_with(s, 'policy-violation', w.edge, 'partner-unlisted', claims='unlisted.example')


@test
def a_stream_to_an_unknown_inner_domain_is_refused(w):
    fresh(w)
    s = Stream.dial(w.edge.external)
    s.open('raw.example', 'elsewhere.example')
    ends_with(s, 'host-unknown', w.edge, 'domain-unknown|host-unknown')


def bad_caller(domain, why):
    def run_it(w):
        fresh(w)
        s = secure_call(w, frm=domain, cert=w.bad[domain])
        ends_with(s, 'not-authorized', w.edge, why, claims=domain)
    return run_it


for domain, why in (('expired.example', 'cert-expired'), ('wrongname.example', 'cert-name'),
                    ('untrusted.example', 'cert-untrusted'), ('selfsigned.example', 'cert-untrusted')):
    function = bad_caller(domain, why)
    function.sentence = 'a caller from %s is refused because of its certificate' % domain
    tests.append(function)


@test
def a_caller_without_a_certificate_is_refused_where_one_is_required(w):
    fresh(w)
    ends_with(secure_call(w, frm='strict.example'), 'not-authorized', w.edge, 'cert-missing')


@test
def external_is_not_offered_for_a_certificate_of_somebody_else(w):
    s = secure_call(w, frm='raw.example', cert=w.bad['expired.example'])
    features = s.features()
    check(not offers(features, 'EXTERNAL'), show(features))
    s.close()


@test
def dialback_without_the_required_tls_is_refused(w):
    fresh(w)
    s, features = call(w)
    check(child(child(features, 'starttls'), 'required') is not None, 'STARTTLS is not marked required')
    s.send("<db:result from='raw.example' to='corp.example'>abcdef</db:result>")
    answer = s.wait(lambda e: local(e) in ('result', 'error'), what='a refusal')
    equal(error(answer).condition, 'policy-violation', 'condition')
    w.edge.wait_log(None, why='tls-required')
    s.close()


@test
def dialback_is_refused_where_it_is_switched_off(w):
    fresh(w)
    s, features = call(w, frm='nodialback.example')
    check(child(features, 'dialback') is None, 'dialback is offered: ' + show(features))
    equal(s.dialback(), 'error', 'dialback result')
    check(b'policy-violation' in bytes(s.raw_in), 'no policy-violation')
    w.edge.wait_log(None, why='dialback-off')
    s.close()


def dialback_outcome(w, domain, result, condition, why):
    fresh(w)
    s, _ = call(w, frm=domain)
    equal(s.dialback(), result, 'dialback result')
    if condition:
        answer = [e for e in re.findall(r'<(?:remote|item|policy|internal)[\w-]+', s.raw_in.decode())]
        check(any(condition in e for e in answer), 'no %s in %s' % (condition, s.raw_in.decode()[-400:]))
    w.edge.wait_log(None, why=why)
    s.close()


@test
def a_caller_whose_dialback_key_is_invalid_is_told_so(w):
    dialback_outcome(w, 'dbinvalid.example', 'invalid', None, 'dialback-invalid')


@test
def a_caller_whose_authoritative_server_does_not_answer_is_told_so(w):
    dialback_outcome(w, 'dbsilent.example', 'error', 'remote-server-timeout', 'dialback-timeout')


@test
def a_caller_whose_authoritative_server_refuses_connections_is_told_so(w):
    dialback_outcome(w, 'closed.example', 'error', 'remote-server-timeout',
                     'tcp-refused|dialback-unreachable')


@test
def a_caller_whose_domain_does_not_exist_is_told_so(w):
    dialback_outcome(w, 'nxdomain.example', 'error', 'remote-server-timeout',
                     'dns-not-found|dialback-unreachable')


@test
def a_dialback_key_of_our_own_is_verified_and_a_wrong_one_is_not(w):
    s, _ = call(w, frm='db.example')
    s.send("<db:verify from='db.example' to='corp.example' id='some-stream'>0123456789abcdef</db:verify>")
    answer = s.wait(lambda e: e.tag == '{%s}verify' % NS_DB)
    equal((answer.get('type'), answer.get('id')), ('invalid', 'some-stream'), 'answer')
    s.close()


@test
def an_answer_to_dialback_that_nobody_asked_for_opens_nothing(w):
    s, _ = call(w, frm='db.example')
    s.send("<db:result from='db.example' to='corp.example' type='valid'/>")
    s.send(message('x@db.example', 'bob@corp.example', 'forged'))
    check(s.wait_end(), 'the stream lives on after a forged authorisation')
    check(w.bob.stream.find(lambda e: body(e) == 'forged') is None, 'the forged message was delivered')


@test
def a_stanza_before_authentication_ends_the_stream(w):
    fresh(w)
    s, _ = call(w, frm='db.example')
    s.send(message('x@db.example', 'bob@corp.example', 'too early'))
    ends_with(s, 'not-authorized', w.edge, 'not-authorized')


@test
def a_stanza_from_a_domain_that_was_not_authorised_ends_the_stream(w):
    fresh(w)
    s = trusted_call(w)
    s.send(message('x@db.example', 'bob@corp.example', 'not mine'))
    ends_with(s, 'invalid-from', w.edge, 'invalid-from')


@test
def a_stanza_without_addresses_ends_the_stream(w):
    fresh(w)
    s = trusted_call(w)
    s.send("<message from='x@raw.example' type='chat'><body>to whom?</body></message>")
    ends_with(s, 'improper-addressing', w.edge, 'bad-address')


@test
def bytes_that_are_not_xml_end_the_stream(w):
    fresh(w)
    s = trusted_call(w)
    s.send("<message from='x@raw.example' to='bob@corp.example'><body>no end</bod></message>")
    ends_with(s, 'not-well-formed', w.edge, 'xml-malformed')


@test
def a_comment_ends_the_stream(w):
    fresh(w)
    s = trusted_call(w)
    s.send("<message from='x@raw.example' to='bob@corp.example'><!-- hidden --><body>x</body></message>")
    ends_with(s, 'restricted-xml', w.edge, 'xml-restricted')


@test
def a_document_type_ends_the_stream(w):
    fresh(w)
    s = Stream.dial(w.edge.external)
    s.send("<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><stream:stream>")
    ends_with(s, 'restricted-xml', w.edge, 'xml-restricted')


@test
def an_undeclared_prefix_is_bounced_and_the_stream_lives_on(w):
    s = trusted_call(w)
    s.send("<message from='x@raw.example' to='bob@corp.example' type='chat' id='pfx'><foo:x/></message>")
    s.send(message('x@raw.example', 'bob@corp.example', 'after the prefix'))
    w.bob.wait_message('after the prefix')
    said_well(w.raw.wait_error('pfx'), 'bad-request', 'modify')
    s.close()


@test
def data_after_starttls_is_an_attack(w):
    fresh(w)
    s, _ = call(w)
    s.send("<starttls xmlns='%s'/><message from='x@raw.example' to='bob@corp.example'/>" % NS_TLS)
    try:
        s.wait('proceed', 2)
        s.handshake(client_context(w.raw_cert), sni='corp.example')
        s.open('raw.example', 'corp.example')
        s.features(2)
        raise AssertionError('TLS went on as if nothing had happened')
    except (Closed, Timeout, OSError, ssl.SSLError):
        pass
    w.edge.wait_log(None, why='tls-injection')


@test
def a_web_browser_is_sent_away(w):
    fresh(w)
    s = Stream.dial(w.edge.external)
    s.send('GET / HTTP/1.1\r\nHost: corp.example\r\n\r\n')
    s.wait_end(5)
    w.edge.wait_log(None, why='not-xmpp|xml-malformed')


# ---- the trunk: 23456 --------------------------------------------------------------------------

@test
def a_trunk_without_a_client_certificate_is_refused(w):
    fresh(w)
    knock(w, None)
    w.edge.wait_log(None, why='cert-missing')


@test
def a_trunk_with_a_certificate_of_a_public_authority_is_refused(w):
    fresh(w)
    knock(w, w.pki.public.issue('fe01.corp.example'))
    w.edge.wait_log(None, why='cert-untrusted')


@test
def a_trunk_with_an_expired_certificate_is_refused(w):
    fresh(w)
    knock(w, w.pki.internal.issue('fe01.corp.example', expired=True))
    w.edge.wait_log(None, why='cert-expired')


def told_trunks(edge):
    return [(t['name'], t['state'], t.get('why')) for t in edge.status_json()['trunks']]


@test
def the_status_tells_which_gateway_is_missing_and_how_the_last_trunk_ended(w):
    edge = another_edge(w)
    knock(w, w.pki.internal.issue('fe01.corp.example', expired=True), edge=edge)
    edge.wait_log(None, why='cert-expired')
    equal(told_trunks(edge), [('fe01.corp.example', 'down', None), ('', 'refused', 'cert-expired')], 'trunks')
    edge.terminate()


@test
def who_proves_nothing_on_the_port_of_the_trunk_does_not_replace_the_reason_of_who_did(w):
    edge = another_edge(w)
    s = Stream.dial(edge.internal, name='trunk')
    s.handshake(client_context(w.pki.internal.issue('fe01.corp.example')), sni='edge01.corp.example')
    s.open('fe01.corp.example', edge.host)
    s.features()
    s.send('<odd/>')
    s.wait_end(5)
    for _ in range(3):
        knock(w, w.pki.internal.issue('fe01.corp.example', expired=True), edge=edge)
    wait_until(lambda: len(told_trunks(edge)) == 3, 5, 'all to be told')
    down, ended, refused = edge.status_json()['trunks']
    equal((down['state'], ended['state'], ended['name']), ('down', 'ended', 'fe01.corp.example'), 'trunks')
    equal(ended['why'], 'trunk-protocol', 'why the trunk ended')
    equal((refused['state'], refused['name'], refused['why'], refused['count']), ('refused', '', 'cert-expired', 3), 'refused')
    told = ' '.join(edge.status().split())
    check(re.search(r'the last trunk ended \d+ seconds? ago, from [^ ]+: trunk-protocol', told), told)
    check(re.search(r'the last caller was refused \d+ seconds? ago, from [^ ]+: cert-expired: fe01\.corp\.example \(3 of them\)', told), told)
    edge.terminate()


@test
def a_trunk_with_a_name_that_is_not_configured_is_refused(w):
    fresh(w)
    knock(w, w.pki.internal.issue('intruder.corp.example'))
    w.edge.wait_log(None, why='name-denied|cert-name')


@test
def a_trunk_in_plain_text_is_refused(w):
    s = Stream.dial(w.edge.internal, name='trunk')
    s.open('fe01.corp.example', 'edge01.corp.example')
    s.wait_end(5)
    check(b'features' not in bytes(s.raw_in), 'features in plain text on 23456')


@test
def a_gateway_may_not_speak_for_a_domain_that_is_not_configured(w):
    fresh(w)
    rogue = Gateway(w.lab, 'fe02', w.lab.ip(42), w.pki, [(w.edge.host,) + w.edge.internal],
                    [w.corp.s2s + (['elsewhere.example'], 'optional')], limits=LIMITS)
    rogue.start()
    w.edge.wait_log(None, why='domain-not-yours')
    rogue.wait_log(None, why='peer-stream-error|domain-not-yours')
    rogue.terminate()


@test
def a_gateway_refuses_an_edge_with_another_name(w):
    doubter = Gateway(w.lab, 'fe03', w.lab.ip(43), w.pki, [('edge99.corp.example',) + w.edge.internal],
                      [w.corp.s2s + (['corp.example'], 'optional')], limits=LIMITS)
    doubter.start()
    doubter.wait_log(None, why='cert-name|name-denied')
    doubter.terminate()


@test
def without_a_gateway_a_partner_gets_its_message_back_and_keeps_its_stream(w):
    edge = another_edge(w)
    s = trusted_call(w, edge)
    for _ in range(2):
        id = 'g%d' % next(ids)
        s.send(message('x@raw.example', 'bob@corp.example', 'anybody there?', id=id))
        said_well(w.raw.wait_error(id), 'remote-server-timeout', 'wait')
    edge.wait_log(None, why='no-trunk')
    check(not s.ended, 'the stream was closed')
    trunks = [(t['name'], t['state']) for t in edge.status_json()['trunks']]
    equal(trunks, [('fe01.corp.example', 'down')], 'the status')
    s.close()
    edge.terminate()


@test
def without_an_edge_an_inner_user_gets_the_message_back(w):
    inner = Peer(w.lab, ['corp.example'], (w.lab.ip(54), 5269))
    lonely = Gateway(w.lab, 'fe04', w.lab.ip(44), w.pki, [(w.edge.host, w.lab.ip(199), 23456)],
                     [inner.address + (['corp.example'], 'optional')], limits=LIMITS)
    lonely.start()
    s = inner.dial(lonely.listen, 'raw.example')
    s.send(message('bob@corp.example', 'x@raw.example', 'anybody there?', id='l1'))
    said_well(inner.wait_error('l1'), 'remote-server-timeout', 'wait')
    lonely.wait_log(None, why='no-trunk')
    lonely.wait_log('trunk-retry', detail=r'.*:23456')
    lonely.terminate()


@test
def the_gateway_accepts_only_the_domains_of_its_inner_servers(w):
    fresh(w)
    s = Stream.dial(w.gateway.listen)
    s.open('raw.example', 'pa.example')
    check(s.wait_end(5), 'no stream error')
    w.gateway.wait_log(None, why='domain-unknown|domain-not-yours|partner-unlisted|host-unknown')


@test
def a_trunk_that_falls_silent_is_closed_by_both_sides_and_dialled_again(w):
    edge = another_edge(w, trunk_ping='300ms', trunk_answer='700ms')
    path = Forwarder(w.lab, (w.lab.ip(198), 23456), edge.internal)
    gateway = Gateway(w.lab, 'fe01-silent', w.lab.ip(45), w.pki, [(edge.host,) + path.address],
                      [w.corp.s2s + (['corp.example'], 'optional')], host='fe01.corp.example',
                      limits=dict(LIMITS, **{'trunk-ping': '300ms', 'trunk-answer': '700ms',
                                             'trunk-retry-first': '100ms', 'trunk-retry-max': '200ms'}))
    gateway.start()
    gateway.wait_trunk(edge)
    path.freeze()
    edge.wait_log(None, why='ping-timeout')
    gateway.wait_log(None, why='ping-timeout')
    gateway.forget_log()
    path.freeze(False)
    path.cut()
    gateway.wait_trunk(edge, 10)
    gateway.terminate()
    edge.terminate()


# ---- limits ------------------------------------------------------------------------------------

def refused(edge, why, frm='raw.example', source=None, condition='resource-constraint'):
    s = Stream.dial(edge.external, source=source)
    try:
        s.open(frm, 'corp.example')
    except Closed:
        pass
    ends_with(s, condition, edge, why)


@test
def the_limit_of_connections_in_all_is_kept(w):
    edge = another_edge(w, connections=3)
    held = [trusted_call(w, edge) for _ in range(3)]     # whoever has proven nothing would make room
    refused(edge, 'limit-connections')
    held.pop().close()
    for _ in range(50):         # room again, as soon as the closed one is gone
        try:
            held.append(call(w, edge)[0])
            break
        except (Closed, OSError):
            continue
    equal(len(held), 3, 'connections after one was closed')
    edge.terminate()


@test
def the_limit_of_connections_with_one_partner_is_kept(w):
    edge = another_edge(w, partner_connections=2)
    claims = [call(w, edge)[0] for _ in range(3)]       # whoever proves nothing does not count
    held = [trusted_call(w, edge) for _ in range(2)]
    refused(edge, 'limit-partner-connections')
    claims.pop().close()
    held.append(call(w, edge, frm='db.example')[0])      # others are not concerned
    edge.terminate()


@test
def the_limit_of_connections_from_one_source_is_kept(w):
    edge = another_edge(w, source_connections=2)
    held = [call(w, edge, source=w.lab.ip(190))[0] for _ in range(2)]
    refused(edge, 'limit-source-connections', source=w.lab.ip(190))
    held.append(call(w, edge, source=w.lab.ip(191))[0])
    edge.terminate()


@test
def the_rate_of_new_connections_from_one_source_is_kept(w):
    edge = another_edge(w, source_rate=1, source_burst=3)
    for _ in range(3):
        call(w, edge, source=w.lab.ip(190))[0].close()
    refused(edge, 'limit-source-rate', source=w.lab.ip(190))
    call(w, edge, source=w.lab.ip(191))[0].close()
    edge.terminate()


@test
def the_limit_of_bytes_before_authentication_is_kept(w):
    edge = another_edge(w, preauth_bytes=4096)
    s, _ = call(w, edge)
    s.send(' ' * 5000)
    ends_with(s, 'policy-violation', edge, 'limit-preauth-bytes')
    edge.terminate()


@test
def the_limit_of_elements_before_authentication_is_kept(w):
    edge = another_edge(w, preauth_elements=5)
    s, _ = call(w, edge, frm='db.example')
    for i in range(8):
        s.send("<db:verify from='db.example' to='corp.example' id='i%d'>0123</db:verify>" % i)
    ends_with(s, 'policy-violation', edge, 'limit-preauth-elements')
    edge.terminate()


@test
def the_time_before_authentication_is_kept(w):
    edge = another_edge(w, preauth_time='1s')
    silent = Stream.dial(edge.external)
    s, _ = call(w, edge)
    ends_with(s, 'connection-timeout', edge, 'setup-timeout')
    silent.wait_end(5)
    check(silent.ended, 'a caller that never said a word is still connected')
    edge.terminate()


@test
def the_size_of_the_stream_header_is_kept(w):
    edge = another_edge(w, header_bytes=1024)
    s = Stream.dial(edge.external)
    s.open('raw.example', 'corp.example', extra=" xmlns:%s='urn:x'" % ('x' * 2000))
    ends_with(s, 'policy-violation', edge, 'header-too-big')
    edge.terminate()


def is_returned(stream, edge, why):
    """The stanza comes back for this reason, and the stream goes on."""
    edge.wait_log('bounce', why=why)
    try:
        stream.wait_end(0.5)
    except Timeout:
        return
    raise AssertionError('the stream ended')


@test
def the_size_of_a_stanza_is_kept(w):
    edge = another_edge(w, stanza_bytes=10000)
    s = trusted_call(w, edge)
    s.send(message('x@raw.example', 'bob@corp.example', 'x' * 12000, id='big'))
    is_returned(s, edge, 'stanza-too-big')
    edge.terminate()


@test
def the_number_of_attributes_is_kept(w):
    edge = another_edge(w, stanza_attributes=16)
    s = trusted_call(w, edge)
    s.send("<message from='x@raw.example' to='bob@corp.example'><x xmlns='urn:x'%s/></message>"
           % ''.join(" a%d='1'" % i for i in range(20)))
    is_returned(s, edge, 'xml-limit')
    edge.terminate()


@test
def the_depth_of_elements_is_kept(w):
    edge = another_edge(w, stanza_depth=8)
    s = trusted_call(w, edge)
    s.send("<message from='x@raw.example' to='bob@corp.example'>%s%s</message>" % ('<x>' * 12, '</x>' * 12))
    is_returned(s, edge, 'xml-limit')
    edge.terminate()


@test
def a_stream_that_is_idle_for_too_long_is_closed(w):
    edge = another_edge(w, inactivity_time='1s')
    s = trusted_call(w, edge)
    ends_with(s, '', edge, 'idle')
    edge.terminate()


@test
def the_number_of_pairs_on_a_stream_is_kept(w):
    edge = another_edge(w, pairs=1)
    s, _ = call(w, edge, frm='db.example')
    equal(s.dialback(), 'valid', 'first pair')
    equal(s.dialback(frm='db2.example'), 'error', 'second pair')
    edge.wait_log(None, why='limit-pairs')
    s.close()
    edge.terminate()


class DeafResolver:
    """A name server that takes questions and says nothing."""

    def __init__(self, ip):
        self.ip = ip
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ip, 0))
        self.port = self.socket.getsockname()[1]

    def questions(self):
        asked = []
        self.socket.setblocking(False)
        try:
            while True:
                asked.append(self.socket.recv(4096))
        except BlockingIOError:
            return asked


@test
def a_resolver_that_is_silent_is_asked_so_often_and_then_given_up(w):
    deaf = DeafResolver(w.lab.ip(192))
    edge = another_edge(w, resolver=deaf, attempt_time='20s', resolver_time='100ms', resolver_tries=3)
    status, said = edge.command('ping', edge.path, 'raw.example', seconds=70)
    check(status == 1 and 'dns-failed' in said, said)
    asked = deaf.questions()
    about = b'\x0c_xmpp-server\x04_tcp\x03raw\x07example'
    equal(len([question for question in asked if about in question]), 3, 'questions for one record')
    edge.terminate()


@test
def the_second_address_is_tried_after_the_race_delay(w):
    edge = another_edge(w, connect_time='20s', attempt_time='30s', race_delay='200ms')
    ping = subprocess.Popen([binary(), 'ping', edge.path, 'halfdeaf.example'], stdout=subprocess.DEVNULL)
    edge.wait_log('s2s-out-open', remote='halfdeaf.example')    # long before connect-time is over
    ping.kill()
    ping.wait()
    edge.terminate()


@test
def the_second_server_is_tried_when_the_first_takes_the_connection_and_is_silent(w):
    edge = another_edge(w, attempt_time='4s')
    ping = subprocess.Popen([binary(), 'ping', edge.path, 'halfsilent.example'], stdout=subprocess.DEVNULL)
    edge.wait_log('s2s-target-failed', seconds=15, remote='halfsilent.example', state='header', why='attempt-timeout')
    edge.wait_log('s2s-out-open', remote='halfsilent.example')
    ping.kill()
    ping.wait()
    edge.terminate()


def told(domain, why, *words):
    def ping(w):
        status, said = w.edge.command('ping', w.edge.path, domain, seconds=70)
        check(status == 1 and 'why=' + why in said and all(word in said for word in words), said)
    return ping


for what, domain, why, *words in (
        ('a web server', 'web.example', 'not-xmpp', 'it said: HTTP/1.1 400 Bad Request'),
        ('an error without a header', 'bare.example', 'peer-stream-error', 'host-unknown'),
        ('an SRV record with an address', 'numeric.example', 'dns-target-address')):
    function = told(domain, why, *words)
    function.sentence = 'a ping to %s tells that' % what
    tests.append(function)


@test
def an_inner_server_whose_resolver_leads_past_the_gateway_is_named(w):
    astray = w.lab.prosody('astray', w.lab.ip(55), w.outside, [Host('corp.example')])
    gateway = Gateway(w.lab, 'fe05', w.lab.ip(46), w.pki, [(w.edge.host, w.lab.ip(199), 23456)],
                      [astray.s2s + (['corp.example'], 'optional')], limits=LIMITS)
    w.lab.wait_ready(astray)
    gateway.start()
    status, said = gateway.command('ping', gateway.path, 'corp.example', seconds=70)
    check(status == 1 and 'why=inner-resolver' in said, said)
    gateway.terminate()
    astray.stop()


@test
def an_inner_server_that_calls_from_another_address_is_named_with_it(w):
    resolver = w.lab.resolver('beside', w.lab.ip(6))
    resolver.wildcard('example', w.lab.ip(46))
    elsewhere = w.lab.prosody('elsewhere', w.lab.ip(56), resolver.start(), [Host('corp.example')])
    gateway = Gateway(w.lab, 'fe06', w.lab.ip(46), w.pki, [(w.edge.host, w.lab.ip(199), 23456)],
                      [elsewhere.s2s + (['corp.example'], 'optional')], limits=LIMITS)
    gateway.source = w.lab.ip(250)
    w.lab.wait_ready(elsewhere)
    gateway.start()
    status, said = gateway.command('ping', gateway.path, 'corp.example', seconds=70)
    source = gateway.find_log('connection-refused', why='source-denied')[0].fields['source']
    check(status == 1 and 'why=inner-source' in said and 'meanwhile: ' + source in said and '<source>' in said, said)
    said = gateway.status()
    check('inner-source' in said, said)
    gateway.terminate()
    elsewhere.stop()


@test
def a_clock_that_is_wrong_is_called_a_clock(w):
    shift = shifted_clock(w.lab)
    if shift is None:
        return          # a sanitizer has the program
    wrong = w.lab.environment('edge01')
    w.lab.environment = lambda name: wrong if name.startswith('edge') else {}
    shift_clock(shift, -3 * 365 * 86400)
    edge = another_edge(w)
    w.lab.environment = lambda name: {}
    said = subprocess.run([binary(), 'check', edge.path], env=dict(os.environ, **wrong), stderr=subprocess.STDOUT,
                          stdout=subprocess.PIPE).stdout.decode()
    check('is the clock of this machine right?' in said, said)
    for domain in 'expired.example', 'wrongname.example':
        status, said = edge.command('ping', edge.path, domain, seconds=70)
        check(status == 1 and 'why=cert-not-yet-valid' in said, said)
        check('our own certificate is not valid yet either' in said, said)
    ping = subprocess.Popen([binary(), 'ping', edge.path, 'raw.example'], stdout=subprocess.DEVNULL)
    edge.wait_log('clock-doubtful', why='cert-not-yet-valid', partners='3')
    ping.kill()
    ping.wait()
    edge.terminate()


def count_errors(w, sent, seconds=8):
    """How often which condition came back for these ids."""
    counts = {}
    for id in sent:
        condition = w.bob.wait_error(id, seconds).condition
        counts[condition] = counts.get(condition, 0) + 1
    return counts


def most_queued(node, what, seconds=1.5):
    """The most that one pair has in its queue during so many seconds."""
    most = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max([most] + [p[what] for p in node.status_json()['pairs']])
        time.sleep(0.05)
    return most


@test
def of_what_a_silent_partner_does_not_take_no_more_than_the_queue_is_held_and_all_comes_back(w):
    fresh(w)
    sent = ['q%d' % next(ids) for _ in range(30)]
    for id in sent:
        w.bob.message('x@full.example', 'wait', id=id)
    held = most_queued(w.edge, 'queued')
    check(10 <= held <= 20, '%d stanzas were held' % held)
    equal(count_errors(w, sent, 20), {'remote-server-timeout': 30}, 'errors')


@test
def nor_more_bytes(w):
    fresh(w)
    sent = ['q%d' % next(ids) for _ in range(6)]
    for id in sent:
        w.bob.message('x@heavy.example', 'x' * 9500, id=id)
    held = most_queued(w.edge, 'queued_bytes')
    check(20000 <= held <= 40000, '%d bytes were held' % held)
    equal(count_errors(w, sent, 20), {'remote-server-timeout': 6}, 'errors')


@test
def the_memory_of_all_queues_is_kept(w):
    edge = another_edge(w, memory='1M', queue_bytes='1M', queue_stanzas=10000, hold_time='3s')
    s = trusted_call(w, edge)
    sent = ['h%d' % next(ids) for _ in range(200)]

    def send():
        for id in sent:
            s.send(message('x@raw.example', 'bob@corp.example', 'x' * 10000, id=id))
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    held = most_queued(edge, 'queued_bytes', 2)
    check(100000 <= held <= 1 << 20, '%d bytes were held' % held)
    conditions = [w.raw.wait_error(id, 20).condition for id in sent]
    sender.join(5)
    equal(set(conditions), {'remote-server-timeout'}, 'errors')
    edge.terminate()


@test
def bob_can_still_talk_after_all_that(w):
    s = trusted_call(w)
    s.send(message('x@raw.example', 'bob@corp.example', 'still there?'))
    w.bob.wait_message('still there?')
    w.bob.message('x@raw.example', 'yes')
    w.raw.wait_message('yes')


@test
def an_inner_server_that_is_down_is_told_by_both_nodes_and_to_whoever_asks(w):
    fresh(w)
    s = trusted_call(w)
    w.corp.stop()
    s.send(message('x@raw.example', 'bob@corp.example', 'anybody there?', id='down'))
    found = w.raw.wait_error('down', 15)
    said_well(found, *NOT_FOUND)
    equal(found.text, 'our own server refused the connection', 'text')
    w.gateway.wait_log('bounce', hop='inner', why='tcp-refused')
    w.edge.wait_log('far-bounce', hop='inner', why='tcp-refused', node=r'fe01\.corp\.example')
    status, said = w.edge.command('ping', w.edge.path, 'corp.example', seconds=70)
    equal((status, said.splitlines()[:2]), (1, ['failed why=tcp-refused: our own server refused the connection',
                                               'hop=inner']), 'ping')


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'dnsmasq', 'openssl')
