#!/usr/bin/env python3
"""15-recipes.t -- what README.md tells to do, done as it stands there, with servers as Debian installs them.

    partner server --5269--> edge <==23456== gateway ----> inner server     each on a machine with README's addresses

The files are the blocks of README.md and those of the packages, changed as the text says.  What is not in it: the
partner, users with a password, and that these come without TLS.
"""
import os
import re
import shutil
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import begin, binary                                                          # noqa: E402
from lab import C2S_PORT, Host, Lab, Server, read_text, wait_until                                  # noqa: E402
from machine import README, Machine, Service, block, inline, make_switch, own_network, paragraph, sh   # noqa: E402
from machine import with_elements, with_keys, with_settings                                      # noqa: E402
from scene import World                                                                 # noqa: E402
from tap import check, equal, test                                                      # noqa: E402
from xmpp import Client, converse                                                       # noqa: E402

INTERNET, PARTNER = '8.8.4.53', '8.8.4.61'      # a name server and a partner
EDGE, GATEWAY, INNER = ('203.0.113.10', '10.0.0.5'), '10.1.0.20', '10.1.0.21'
USERS = ('c2s_require_encryption = false\n'
         'allow_unencrypted_plain_auth = true\n')

SILENCE = 2                                     # seconds, in the place of the 50 in Debian's haproxy.cfg


# ---- outside, and the border -------------------------------------------------------------------

def start_outside(w):
    """The name server of the Internet, and fabrikam.example, which insists on certificates."""
    w.internet = Machine(w.lab, 'internet', INTERNET, PARTNER)
    w.dns = dns = w.lab.resolver('outside', INTERNET)
    dns.port = 53
    dns.server('fabrikam.example', PARTNER)
    record = re.search(r'`_xmpp-server._tcp.(\S+)\. SRV (\d+) (\d+) (\d+) (\S+)\.`', read_text(README))
    check(record, 'README.md has no SRV record')
    dns.srv(record[1], record[5], int(record[4]))
    dns.address(record[5], EDGE[0])
    w.internet.place('dns-outside', 'fabrikam')
    dns.start()
    cert = w.public.issue('fabrikam.example')
    w.partner = w.lab.prosody('fabrikam', PARTNER, dns, [Host('fabrikam.example', cert, w.public, secure=True,
                                                              users=('alice', 'anna', 'arno', 'alba', 'adam', 'abel',
                                                                     'amos'))])


def equip(w, node, name, *more):
    """Each gets the authority and the two files of its name; an edge also those of the domain, and whom to trust."""
    for file in ('internal-ca.pem', name + '.corp.example.pem', name + '.corp.example.key') + more:
        shutil.copy(os.path.join(w.lab.dir, 'trunk', file), node.machine.path('/etc/xmppedge'))
    if more:
        shutil.copy(w.cert.chain, node.machine.path('/etc/xmppedge/corp.example.pem'))
        shutil.copy(w.cert.key, node.machine.path('/etc/xmppedge/corp.example.key'))
        node.machine.write('/etc/ssl/certs/ca-certificates.crt', read_text(w.public.crt))


def make_trunk(w):
    """The nodes' machines, with the files that README.md gives them."""
    w.edge = Service(Machine(w.lab, 'edge', *EDGE, nameserver=INTERNET), 'edge')
    w.gateway = Service(Machine(w.lab, 'gateway', GATEWAY), 'gateway')
    w.lab.write('make.sh', block('own. This makes it', 'sh'))
    sh('cd "$1"; mkdir bin; ln -s "$2" bin/xmppedge; PATH=$PWD/bin:$PATH sh -e make.sh', w.lab.dir, binary())
    w.cert = w.public.issue('corp.example')
    equip(w, w.edge, 'edge01', 'dialback.secret')
    equip(w, w.gateway, 'fe01')
    w.edge.write(block('The edge, in the DMZ', 'xml'))
    w.gateway.write(block('The gateway, on the machine', 'xml'))


def start_border(w):
    """And the resolver of the inner server, beside the gateway."""
    for node in (w.edge, w.gateway):
        node.start()
    w.gateway.wait_log('trunk-up', 15)
    w.gateway.machine.write('/etc/dnsmasq.conf', block('LAN but to the gateway', '') + 'user=root\n')
    start_dnsmasq(w)


def start_dnsmasq(w):
    w.dnsmasq = w.gateway.machine.start('dns-inside', ['dnsmasq', '-k', '-C', '/etc/dnsmasq.conf'])
    w.gateway.machine.wait_port(GATEWAY, 53)


def setup():
    w = World()
    w.lab = lab = Lab()
    make_switch()
    w.public = lab.authority('public')
    w.inner, w.server, w.second = Machine(lab, 'inner', INNER, nameserver=GATEWAY), None, None
    start_outside(w)
    make_trunk(w)
    start_border(w)
    lab.wait_ready(w.partner)
    return w


# ---- the inner server --------------------------------------------------------------------------

def prosody(w, machine, address, more=''):
    """Prosody of the package, with the settings of README.md and a domain."""
    machine.change('/etc/prosody/prosody.cfg.lua', with_settings, block('**Prosody** (', 'lua') + more)
    machine.write('/etc/prosody/conf.d/corp.example.cfg.lua', 'VirtualHost "corp.example"\n' + USERS)
    machine.must('prosodyctl', 'register', 'bob', 'corp.example', 'secret')
    machine.must('install', '-d', '-o', 'prosody', '/run/prosody')     # systemd does
    w.lab.logs.append(machine.path('/var/log/prosody/prosody.log'))
    server = Server('prosody', 'Prosody', address, address, C2S_PORT)
    server.user = 'bob'
    start_prosody(w, machine, server)
    return server


def start_prosody(w, machine, server):
    server.processes = [machine.start('prosody', ['/usr/bin/prosody', '-F'], user='prosody', cwd='/var/lib/prosody')]
    w.lab.wait_ready(server)


def configure_ejabberd(machine, installed):
    """As README.md says, and for the domain.  Users come without TLS."""
    text = with_keys(installed, block('**ejabberd** (', 'yaml')).replace('- localhost', '- corp.example')
    machine.write('/etc/ejabberd/ejabberd.yml', text.replace('starttls_required: true', 'starttls_required: false'))


def ejabberd(w, machine, address, certfiles=True):
    """ejabberd likewise."""
    installed = machine.read('/etc/ejabberd/ejabberd.yml')
    configure_ejabberd(machine, installed if certfiles else re.sub(r'(?m)^certfiles:\n.*\n', '', installed))
    w.lab.logs.append(machine.path('/var/log/ejabberd/ejabberd.log'))
    server = Server('ejabberd', 'ejabberd', address, address, 5269)
    server.user = 'carol'
    machine.must('install', '-d', '-o', 'ejabberd', '/run/ejabberd')
    machine.start('epmd', ['epmd'])
    server.processes = [machine.start('ejabberd', ['/usr/sbin/ejabberdctl', 'foreground'], user='ejabberd',
                                      quiet=True)]
    w.lab.wait_ready(server)
    wait_until(lambda: machine.command('ejabberdctl', 'register', 'carol', 'corp.example', 'secret')[0] == 0, 30,
               'an account: the port is there before the database is', every=0.5)
    return server


def talk(w, one, server):
    outside, inside = Client(one + '@fabrikam.example', w.partner), Client(server.user + '@corp.example', server)
    converse(outside, inside, 20)
    outside.close()
    inside.close()


def again(w):
    """The gateway forgets who goes without TLS."""
    w.gateway.forget_log()
    w.gateway.reload()
    w.gateway.wait_log('reloaded')


def start_again(w, node):
    """A node that has ended; until there is the trunk with the first edge."""
    w.gateway.forget_log()
    node.start()
    w.gateway.wait_log('trunk-up', 60, name='edge01.corp.example')


def given_up(w, why):
    """TLS with the inner server was given up for this reason, once, and the status says so."""
    said = w.gateway.find_log('s2s-tls-given-up', remote='corp.example')
    equal([line.fields['why'] for line in said], [why], 'that TLS was given up, with its reason, and once')
    check('WITHOUT TLS' in w.gateway.status(), w.gateway.status())
    equal([(d['domain'], d['why'], d['seconds'] > 3500) for d in w.gateway.status_json()['without_tls']],
          [('corp.example', why, True)], 'without_tls of the status')


@test
def prosody_without_a_certificate(w):
    w.server = prosody(w, w.inner, INNER)
    talk(w, 'alice', w.server)
    given_up(w, 'tls-failed')


@test
def prosody_is_given_a_certificate(w):
    w.lab.write('give.sh', block('**Prosody without', 'sh'))
    asked = w.inner.must('sh', '-ec', 'cd "$1"; PATH=$1/bin:$PATH; systemctl() { echo systemctl "$@"; }; . ./give.sh',
                         'sh', w.lab.dir)
    check('systemctl restart prosody' in asked, asked)
    w.server.stop()
    start_prosody(w, w.inner, w.server)
    again(w)
    equal(w.gateway.status_json()['without_tls'], [], 'without_tls of the status')
    talk(w, 'anna', w.server)
    w.gateway.wait_log('s2s-out-open', remote='corp.example', tls='TLS.*')


@test
def ejabberd_without_a_certificate_and_then_with_that_of_its_package(w):
    if w.server:
        w.server.stop()
    again(w)
    installed = w.inner.read('/etc/ejabberd/ejabberd.yml')
    w.server = ejabberd(w, w.inner, INNER, certfiles=False)
    talk(w, 'arno', w.server)
    given_up(w, 'tls-refused')
    configure_ejabberd(w.inner, installed)
    w.inner.must('ejabberdctl', 'reload_config')
    equal(w.gateway.terminate(), 0, 'exit status of the gateway')
    start_again(w, w.gateway)
    talk(w, 'alba', w.server)
    w.gateway.wait_log('s2s-out-open', remote='corp.example', tls='TLS.*')
    w.server.stop()
    w.server = None


# ---- the border, otherwise ---------------------------------------------------------------------

def restart(w, node, text):
    """With this configuration."""
    equal(node.terminate(), 0, 'exit status of ' + node.name)
    node.write(text)
    start_again(w, node)


@test
def two_edges(w):
    said = paragraph('**Two edges**')
    host, external, internal = inline(said, r'name (edge02) and the addresses ([0-9.]+) and ([0-9.]+)')
    w.lab.write('second.sh', inline(said, r'`(xmppedge authority [^`]*)`')[0])
    sh('cd "$1"; PATH=$PWD/bin:$PATH sh -e second.sh', w.lab.dir)
    w.second = Service(Machine(w.lab, host, external, internal, nameserver=INTERNET), 'edge')
    equip(w, w.second, host, 'dialback.secret')
    w.second.write(w.edge.machine.read(w.edge.path).replace('edge01', host).replace(EDGE[0], external).replace(
        EDGE[1], internal))
    w.second.start()
    first, = re.findall('<edge [^>]*>', w.gateway.machine.read(w.gateway.path))
    w.gateway.machine.change(w.gateway.path, lambda text: text.replace(first, first + inline(
        said, '`(<edge [^`]*/>)`')[0]))
    w.gateway.reload()
    w.gateway.wait_log('trunk-up', 15, name=host + '.corp.example')
    target, = inline(said, r'SRV record leads to (\S+\.example)')
    w.dns.srv('corp.example', target, 5269)
    w.dns.address(target, external)
    w.dns.restart()
    w.server = w.server or prosody(w, w.inner, INNER)
    equal(w.edge.terminate(), 0, 'exit status of the first edge')
    talk(w, 'adam', w.server)
    w.second.wait_log('s2s-in-open', remote='fabrikam.example')
    w.second.wait_log('s2s-out-open', remote='fabrikam.example')
    start_again(w, w.edge)


@test
def behind_a_balancer(w):
    said = paragraph('**Behind a balancer**')
    address, = inline(said, r'`balancers="([0-9.]+)"`')
    restart(w, w.edge, w.edge.machine.read(w.edge.path).replace('<external ', '<external balancers="%s" ' % address))
    balancer = Machine(w.lab, 'balancer', address)
    balancer.must('mkdir', '-p', '/run/haproxy')
    balancer.change('/etc/haproxy/haproxy.cfg', lambda text: text.replace(' 50000', ' %d' % (1000 * SILENCE)) + block(
        '**Behind a balancer**', ''))
    balancer.start('haproxy', ['haproxy', '-db', '-f', '/etc/haproxy/haproxy.cfg'])
    balancer.wait_port(address, 5269)
    w.dns.lines = [line for line in w.dns.lines if 'corp.example' not in line]
    w.dns.server('corp.example', address)
    w.dns.restart()
    if w.second:
        equal(w.second.terminate(), 0, 'exit status of the second edge')
    w.edge.forget_log()
    w.server = w.server or prosody(w, w.inner, INNER)
    talk(w, 'abel', w.server)
    w.edge.wait_log('s2s-in-open', remote='fabrikam.example', peer=INTERNET.replace('.', r'\.') + ':.*')
    w.edge.wait_log('s2s-out-open', remote='fabrikam.example')
    time.sleep(SILENCE + 1)
    equal(w.edge.find_log('s2s-in-closed', remote='fabrikam.example'), [], 'that a silent stream is cut')


@test
def the_gateway_on_the_machine_of_the_inner_server(w):
    if w.server:
        w.server.stop()
    machine, said = w.gateway.machine, paragraph("**The gateway on the inner server's machine**")
    w.dnsmasq.kill()
    everything, = inline(said, '`(address=[^`]*)`')
    machine.change('/etc/dnsmasq.conf', lambda text: re.sub('address=/#/.*', everything, text))
    start_dnsmasq(w)
    machine.write('/etc/resolv.conf', 'nameserver 127.0.0.1\n')
    (listen,), (inner,), (source,) = (inline(said, '`(<%s [^`]*>)`' % name) for name in ('listen', 'inner', 'source'))
    restart(w, w.gateway, with_elements(machine.read(w.gateway.path), '%s%s<domain name="corp.example"/>%s</inner>'
                                        % (listen, inner, source)))
    w.server = prosody(w, machine, GATEWAY, inline(said, '`(s2s_interfaces[^`]*)`')[0] + '\n')
    talk(w, 'amos', w.server)


if __name__ == '__main__':
    own_network(__file__)
    begin(setup, 'prosody', 'erl', 'dnsmasq', 'haproxy', 'openssl', 'nsenter', 'setpriv', 'ip')
