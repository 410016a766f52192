#!/usr/bin/env python3
"""45-night.t -- twelve failures as they are met at night: what log, status, ping and explain say of each.

Each tool that is asked names the cause, and what to do about it.  Where a tool cannot know, the table says
so.  NIGHT=FILE keeps what all of them have said, to be read by somebody who knows nothing of the program.
"""
import os
import re
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Edge, Gateway, Pki, begin, shift_clock, shifted_clock   # noqa: E402
from lab import Host, Lab, wait_until                                          # noqa: E402
from scene import LIMITS as SHORT, World, make_partners                                 # noqa: E402
from tap import Skip, check, equal, test, tests                                # noqa: E402
from xmpp import Peer, ids, message                                            # noqa: E402

INNER = 'corp.example'
LIMITS = dict(SHORT, **{'attempt-time': '20s'})     # a handshake may wait when the machine has much to do


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.table = []
    w.outside = lab.resolver('outside', lab.ip(2))
    w.outside.server(INNER, lab.ip(21))
    w.outside.server('unlisted.example', lab.ip(101))
    policies = make_partners(w)
    w.outside.start()
    w.corp = Peer(lab, [INNER], (lab.ip(51), 5269))
    w.border = Border(lab, pki, w.outside, [INNER], policies, [w.corp.address + ([INNER], 'optional')],
                      edge_limits=LIMITS, gateway_limits=LIMITS)
    w.border.start()
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.failures = 12
    return w


# ---- who is asked ------------------------------------------------------------------------------

def flat(text):
    return ' '.join(text.split())


def keep(w, failure, tool, said, *words):
    """A row of the table; it must have said that."""
    w.table.append((failure, tool, said.strip()))
    told = flat(said)
    for word in words:
        check(re.search(word, told), '%s, %s: no %r in:\n%s' % (failure, tool, word, said))


def log_says(w, failure, node, event, *words, **fields):
    line = node.wait_log(event, seconds=10, **fields)
    keep(w, failure, 'log of the %s' % role(node), line.text, *words)


def role(node):
    return 'edge' if isinstance(node, Edge) else 'gateway'


def status_says(w, failure, node, *words, domain=None):
    said = node.command('status', node.path, *([domain] if domain else []))[1]
    if not domain:      # what stands at the top: a terminal has no more; before it what is said of the file
        lines = said.splitlines()
        top = next(i for i, line in enumerate(lines) if line.startswith(('WHAT IS WRONG', 'ALL IS WELL')))
        said = '\n'.join(lines[:top - 2] + lines[top:lines.index('', top)])
    keep(w, failure, 'status %sat the %s' % (domain + ' ' if domain else '', role(node)), said, *words)


def ping_says(w, failure, node, domain, *words):
    code, said = node.command('ping', node.path, domain, seconds=70)
    equal(code, 1, said)
    keep(w, failure, 'ping %s at the %s' % (domain, role(node)), said, 'what to do: ', *words)


def explain_says(w, failure, node, domain, *words):
    code, said = node.command('explain', node.path, domain, seconds=130)
    equal(code, 1, said)
    begin = said.find('\nTHIS NODE')
    end = said.index('\nTO THEIR ADMINISTRATOR')
    keep(w, failure, 'explain %s' % domain, said[begin if begin >= 0 else said.index('\nWHAT TO DO'):end], *words)


def cannot_say(w, failure, tool, why):
    w.table.append((failure, tool, '(%s)' % why))


def write(w, domain):
    """An inner user writes to somebody there."""
    s = w.corp.dial(w.gateway.listen, domain, frm=INNER)
    id = 'n%d' % next(ids)
    s.send(message('bob@' + INNER, 'x@' + domain, 'hello', id=id))
    w.corp.wait_error(id, 15)
    s.close()


# ---- what is in the files ----------------------------------------------------------------------

GONE_ON = 'the service goes on with the configuration that it took before; a restart would not come up'


def refused(w, failure, text, *words, parsed=True):
    """A configuration that is not taken, with the edge running on the old one."""
    with open(w.edge.path, 'w') as f:
        f.write(text)
    w.edge.forget_log()
    try:
        code, said = w.edge.command('check', w.edge.path)
        equal(code, 2, said)
        keep(w, failure, 'check', said, *words)
        status_says(w, failure, w.edge, GONE_ON, *words)        # nobody has told the service
        w.edge.reload()
        log_says(w, failure, w.edge, 'reload-failed', 'nothing has changed', *words)
        status_says(w, failure, w.edge, 'was refused', 'what was there before is in force', 'a restart would not come up',
                    *words)
        for tool in ('ping', 'explain'):
            code, said = w.edge.command(tool, w.edge.path, 'raw.example', seconds=130)
            check(code != 2, said)
            if parsed:
                cannot_say(w, failure, tool, 'it goes on as before, for the running edge has what was there before')
            else:
                keep(w, failure, tool, '\n'.join(line for line in said.splitlines() if 'xml:' in line or 'xmppedge:' in line),
                     GONE_ON, *words)
    finally:
        w.edge.write()
        w.edge.reload()
        w.edge.wait_log('reloaded')


@test
def a_typo_in_the_configuration(w):
    refused(w, 'a typo in the configuration', w.edge.xml().replace('<dialback ', '<dailback '), 'edge01.xml:\\d+: .*dailback',
            'did you mean <dialback>', parsed=False)


@test
def a_key_of_another_certificate(w):
    other = w.pki.public.issue('other.example')
    good = w.edge.domains[INNER]
    refused(w, 'a wrong key', w.edge.xml().replace(good.key, other.key), 'edge01.xml:\\d+: .*key')


@test
def a_key_that_cannot_be_read(w):
    good = w.edge.domains[INNER]
    refused(w, 'an unreadable key', w.edge.xml().replace(good.key, good.key + '.gone'), 'edge01.xml:\\d+: .*gone')


# ---- at the partner's --------------------------------------------------------------------------

def outside(failure, domain, why, remedy):
    def run_it(w):
        w.edge.forget_log()
        write(w, domain)
        log_says(w, failure, w.edge, 's2s-out-closed', 'why=' + why, why=why, remote=domain)
        status_says(w, failure, w.edge, r'partners?, %s \(for \d+ [a-z]+\): %s, ' % (domain, why), remedy)
        status_says(w, failure, w.edge, 'why %s: ' % why, 'what to do', remedy, domain=domain)
        ping_says(w, failure, w.edge, domain, 'why=' + why, remedy)
        explain_says(w, failure, w.edge, domain, why, remedy)
    return run_it


for failure, domain, why, remedy in (
        ("a partner's certificate has expired", 'expired.example', 'cert-expired', 'certificate of expired.example renewed'),
        ('DNS has nothing about a partner', 'nxdomain.example', 'dns-not-found', r'dig SRV _xmpp-server\._tcp\.nxdomain\.example'),
        ("a firewall drops what goes to a partner's port", 'deaf.example', 'tcp-timeout', r'firewall that drops our packets to [\d.]+:\d+;')):
    function = outside(failure, domain, why, remedy)
    function.sentence = failure
    tests.append(function)


@test
def a_partner_is_not_listed(w):
    failure = 'a partner is not listed'
    w.edge.forget_log()
    write(w, 'unlisted.example')
    log_says(w, failure, w.edge, 'bounce', 'partner-unlisted', to='x@unlisted.example')
    status_says(w, failure, w.edge, 'partner-unlisted', 'Add a <partner> with domain="unlisted.example"', domain='unlisted.example')
    ping_says(w, failure, w.edge, 'unlisted.example', 'partner-unlisted', 'Add a <partner> with domain="unlisted.example"')
    explain_says(w, failure, w.edge, 'unlisted.example', 'List it with <partner domain="unlisted.example"/>')


# ---- between the nodes, and inside -------------------------------------------------------------

@test
def the_gateway_is_down(w):
    failure = 'the gateway is down'
    w.edge.forget_log()
    w.gateway.kill()
    log_says(w, failure, w.edge, 'trunk-down', 'why=peer-lost|why=peer-closed')
    wait_until(lambda: not w.edge.status_json()['healthy'], 10, 'the edge to miss it')
    status_says(w, failure, w.edge, 'no gateway is connected', r'\(for ', 'what to do: See at the gateway whether it runs')
    ping_says(w, failure, w.edge, INNER, 'why=no-trunk')
    explain_says(w, failure, w.edge, 'raw.example', 'no gateway is connected', 'it is on our side')
    w.gateway.start()
    w.gateway.wait_trunk(w.edge)


@test
def the_clock_is_wrong(w):
    failure = 'the clock of the edge is wrong'
    shift = shifted_clock(w.lab)
    if shift is None:
        w.failures -= 1
        raise Skip('no clock of its own here')
    shift_clock(shift, -3 * 365 * 86400)
    edge = Edge(w.lab, 'edge02', w.lab.ip(22), w.lab.ip(32), w.pki, w.outside, {INNER: w.edge.domains[INNER]},
                w.edge.partners, limits=LIMITS).start()
    w.lab.environment = lambda name: {}
    for domain in 'expired.example', 'wrongname.example', 'raw.example':
        edge.command('ping', edge.path, domain, seconds=70)
    log_says(w, failure, edge, 'clock-doubtful', 'clock')
    status_says(w, failure, edge, r'WHAT IS WRONG the clock of this machine says 2\d+-[\dT:-]+Z: is it right\?', 'is not valid yet')
    ping_says(w, failure, edge, 'expired.example', 'cert-not-yet-valid', 'clock')
    explain_says(w, failure, edge, 'expired.example', 'cert-not-yet-valid', 'clock')
    edge.terminate()


@test
def the_certificate_of_an_edge_does_not_have_its_name(w):
    failure = 'the certificate of an edge does not have its name'
    edge = Edge(w.lab, 'edge03', w.lab.ip(23), w.lab.ip(33), w.pki, w.outside, {INNER: w.edge.domains[INNER]},
                w.edge.partners, limits=LIMITS)
    edge.cert = w.pki.internal.issue('another-name.corp.example')
    gateway = Gateway(w.lab, 'fe01', w.lab.ip(43), w.pki, [(edge.host,) + edge.internal],
                      [w.corp.address + ([INNER], 'optional')], limits=LIMITS)
    gateway.path = gateway.path.replace('fe01', 'fe03')
    gateway.name = 'fe03'
    gateway.write()
    edge.write()
    keep(w, failure, 'check at the edge', edge.command('check', edge.path)[1].split('<!--')[0], 'does not name edge03', 'no gateway will accept it')
    edge.start()
    gateway.start()
    log_says(w, failure, edge, 'config-warning', 'does not name edge03', text='.*does not name.*')
    log_says(w, failure, gateway, 'trunk-retry', 'why=cert-name', why='cert-name')
    status_says(w, failure, gateway, 'no trunk to edge edge03.corp.example', 'cert-name, the certificate of our own edge',
                'certified for edge03.corp.example')
    status_says(w, failure, edge, 'no gateway is connected', 'not-authorized', 'what to do: See at the gateway')
    ping_says(w, failure, edge, INNER, 'why=no-trunk')
    explain_says(w, failure, edge, 'raw.example', 'no gateway is connected', 'it is on our side')
    gateway.terminate()
    edge.terminate()


@test
def the_resolver_of_the_inner_server_leads_past_the_gateway(w):
    failure = "the inner server's resolver leads past the gateway"
    astray = w.lab.prosody('astray', w.lab.ip(55), w.outside, [Host(INNER)])
    gateway = Gateway(w.lab, 'fe05', w.lab.ip(46), w.pki, [(w.edge.host, w.lab.ip(199), 23456)],
                      [astray.s2s + ([INNER], 'optional')], limits=LIMITS)
    w.lab.wait_ready(astray)
    gateway.start()
    ping_says(w, failure, gateway, INNER, 'why=inner-resolver', 'resolver')
    log_says(w, failure, gateway, None, 'inner-resolver', why='inner-resolver')
    status_says(w, failure, gateway, 'nothing gets to the inner server of corp.example', 'inner-resolver', 'what to do: ')
    cannot_say(w, failure, 'explain', 'it is for partners, and says at a gateway that its edge knows them')
    gateway.terminate()
    astray.stop()


@test
def the_inner_server_is_down(w):
    failure = 'the inner server is down'
    s = w.db.dial(w.edge.external, INNER, frm='db.example')
    w.corp.stop()
    w.edge.forget_log()
    w.gateway.forget_log()
    ping_says(w, failure, w.edge, INNER, 'why=tcp-refused', 'our own server refused the connection', 'hop=inner')
    log_says(w, failure, w.gateway, 's2s-out-closed', 'hop=inner', 'why=tcp-refused')
    log_says(w, failure, w.edge, 'far-bounce', 'hop=inner', 'why=tcp-refused')
    status_says(w, failure, w.gateway, 'nothing gets to the inner server of corp.example', 'tcp-refused', 'what to do: ')
    s.send(message('x@db.example', 'bob@' + INNER, 'hello', id='inner'))
    w.db.wait_error('inner', 15)
    status_says(w, failure, w.edge, 'WHAT IS WRONG', r'nothing gets from gateway fe01\.corp\.example to the inner server of corp\.example \(for \d+ [a-z]+\): '
                'tcp-refused, our own server refused the connection', 'what to do: ')
    equal(w.edge.status_json()['healthy'], False, 'what the edge says to programs')
    cannot_say(w, failure, 'explain', 'it looks at partners; for what is inside there is ping')
    s.close()


@test
def all_of_it_can_be_read(w):
    names = sorted({failure for failure, _, _ in w.table})
    equal(len(names), w.failures, '\n'.join(names))
    for name in names:
        tools = ' '.join(tool for failure, tool, _ in w.table if failure == name)
        for tool in ('log', 'status', 'ping', 'explain'):
            check(tool in tools, '%s: nothing of %s' % (name, tool))
    if 'NIGHT' not in os.environ:
        return
    with open(os.environ['NIGHT'], 'w') as f:
        before = None
        for failure, tool, said in w.table:
            if failure != before:
                f.write('%s%s\n%s\n' % ('' if before is None else '\n', failure.upper(), '=' * len(failure)))
            before = failure
            f.write('\n  [%s]\n%s\n' % (tool, '\n'.join('    ' + line for line in said.splitlines())))


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'dnsmasq', 'openssl')
