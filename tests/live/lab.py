"""lab.py -- a private federation on loopback addresses.

A Lab is a temporary folder, a 127.A.B.0/24 network of its own, throw-away certificate authorities,
name servers (dnsmasq) and real XMPP servers (Prosody, ejabberd, jabberd2) that resolve names through
them and nothing else.  No root, no system service, no system file is needed or touched; two labs may
run at the same time.  Whatever a lab started ends with it, also when the test is killed.

    with Lab() as lab:
        public = lab.authority('public')
        dns = lab.resolver('outside')
        dns.server('pa.example', lab.ip(11))
        dns.start()
        pa = lab.prosody('pa', lab.ip(11), dns, [Host('pa.example', public.issue('pa.example'), public)])
        lab.wait_ready(pa)

Every service has its own address, so that standard ports can be used without being root.
The way each server is told its resolver:
  Prosody   unbound = { forward = "IP@PORT"; options = { ["do-not-query-localhost:"] = "no" } }
  ejabberd  an inetrc file named by ERL_INETRC: {lookup,[dns]} and {nameserver,IP,PORT}.  That serves
            SRV records only: addresses it asks from the C library, which knows no resolver but the
            machine's.  So it gets a name server of its own that gives addresses as SRV targets.
  jabberd2  the variables of its resolver library (udns): NAMESERVERS and RES_OPTIONS=port:PORT

Environment: XMPPEDGE_KEEP=1 keeps the temporary folder.
"""

import atexit
import ctypes
import glob
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DNS_PORT = 5353
S2S_PORT = 5269
DIRECT_PORT = 5270
C2S_PORT = 5222
START_SECONDS = 40      # ejabberd on a busy two-core machine needs ten of them
PASSWORD = 'secret'


class HarnessError(Exception):
    """The harness, not the program under test, failed."""


# ---- waiting -----------------------------------------------------------------------------------

def wait_until(condition, seconds=10, what='a condition', every=0.02):
    """Poll until condition() is true; return its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError('waited %g s for %s' % (seconds, what))
        time.sleep(every)


def port_open(ip, port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((ip, port)) == 0


# ---- addresses ---------------------------------------------------------------------------------

def claim_network():
    """A 127.A.B.0/24 nobody else uses.  The lock is a listening socket: it goes when we go."""
    start = os.getpid()
    for i in range(1000):
        n = (start + i) % (180 * 250)
        net = '127.%d.%d' % (64 + n // 250, 1 + n % 250)
        lock = socket.socket()
        try:
            lock.bind((net + '.1', 1025))
            lock.listen(1)
            return net, lock
        except OSError:
            lock.close()
    raise HarnessError('no free loopback network')


def free_port(ip='127.0.0.1'):
    """A port below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    for _ in range(500):
        port = random.randrange(15000, 32000)
        with socket.socket() as s:
            try:
                s.bind((ip, port))
                return port
            except OSError:
                continue
    raise HarnessError('no free port on ' + ip)


# ---- certificates ------------------------------------------------------------------------------

def openssl(*args, cwd=None):
    done = subprocess.run(('openssl',) + args, cwd=cwd, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise HarnessError('openssl %s: %s' % (args[0], done.stdout.decode(errors='replace')))


class Certificate:
    """A key and a chain, as two files and as one."""

    def __init__(self, stem):
        self.stem = stem
        self.chain = stem + '.crt'
        self.key = stem + '.key'
        self.pem = stem + '.pem'

    def finish(self):
        with open(self.pem, 'w') as out:
            for name in (self.chain, self.key):
                with open(name) as part:
                    out.write(part.read())
        return self

    def copy_to(self, other):
        """Put this certificate in the place of another: what an administrator does at renewal."""
        for mine, theirs in ((self.key, other.key), (self.chain, other.chain), (self.pem, other.pem)):
            shutil.copy(mine, theirs + '.new')
            os.rename(theirs + '.new', theirs)

    def der(self):
        with open(self.chain) as f:
            import ssl
            text = f.read()
            end = '-----END CERTIFICATE-----'
            return ssl.PEM_cert_to_DER_cert(text[:text.index(end) + len(end)] + '\n')


CA_CONFIG = '''[ca]
default_ca=d
[d]
database=%(db)s/index.txt
serial=%(db)s/serial
new_certs_dir=%(db)s
default_md=sha256
policy=p
unique_subject=no
[p]
commonName=supplied
'''


class Authority:
    """A throw-away certificate authority; more: extensions as OpenSSL writes them."""

    def __init__(self, lab, name, *more):
        self.dir = lab.folder('ca-' + name)
        self.crt = os.path.join(self.dir, 'ca.crt')
        self.key = os.path.join(self.dir, 'ca.key')
        self.made = 0
        openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', self.key)
        openssl('req', '-x509', '-new', '-key', self.key, '-days', '3650', '-out', self.crt,
                '-subj', '/O=xmppedge test lab/CN=Lab %s CA' % name,
                '-addext', 'basicConstraints=critical,CA:TRUE',
                '-addext', 'keyUsage=critical,keyCertSign,cRLSign', *[x for m in more for x in ('-addext', m)])

    def issue(self, *names, common_name=None, expired=False, usage='serverAuth,clientAuth'):
        """A leaf certificate with one dNSName for each name."""
        self.made += 1
        cert = Certificate(os.path.join(self.dir, '%02d-%s' % (self.made, names[0].replace('*', 'any'))))
        db = cert.stem + '.db'
        os.mkdir(db)
        with open(db + '/index.txt', 'w'), open(db + '/serial', 'w') as serial:
            serial.write('%04X\n' % (0x1000 + self.made))
        with open(db + '/ca.cnf', 'w') as f:
            f.write(CA_CONFIG % {'db': db})
        with open(db + '/ext', 'w') as f:
            f.write('basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n'
                    'subjectAltName=%s\n' % (usage, ','.join('DNS:' + n for n in names)))
        openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', cert.key)
        openssl('req', '-new', '-key', cert.key, '-subj', '/CN=' + (common_name or names[0]),
                '-out', db + '/csr')
        # "openssl ca" is the only way to choose both dates with OpenSSL 3.0
        dates = ('-startdate', '20250101000000Z', '-enddate', '20250201000000Z') if expired else \
                ('-days', '90')
        openssl('ca', '-batch', '-notext', '-config', db + '/ca.cnf', '-cert', self.crt,
                '-keyfile', self.key, '-in', db + '/csr', '-out', cert.chain,
                '-extfile', db + '/ext', *dates)
        return cert.finish()


def self_signed(lab, name):
    cert = Certificate(os.path.join(lab.folder('self-signed'), name))
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-keyout', cert.key, '-out', cert.chain, '-days', '90', '-subj', '/CN=' + name,
            '-addext', 'subjectAltName=DNS:' + name)
    return cert.finish()


# ---- processes ---------------------------------------------------------------------------------

def prctl(option, value):
    """Linux only; elsewhere the ordinary cleaning up has to do."""
    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        pass


def die_with_parent():
    """In the child: ask for SIGKILL when the test dies without cleaning up."""
    prctl(1, signal.SIGKILL)        # PR_SET_PDEATHSIG


def adopt_orphans():
    """Helpers of the servers (Erlang has some) become ours when their parent ends: nobody else may
    collect them in a container."""
    prctl(36, 1)                    # PR_SET_CHILD_SUBREAPER


def collect_orphans(seconds=1):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
        except ChildProcessError:
            return


def sweep():
    """Remove folders of tests that were killed."""
    for path in glob.glob(os.path.join(tempfile.gettempdir(), 'xmppedge-live-*')):
        owner = os.path.basename(path).split('-')[2]
        if owner.isdigit() and not os.path.exists('/proc/' + owner) and os.path.exists('/proc/self') \
                and os.stat(path).st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)


class Process:
    """A child in a process group of its own, with everything it prints in a file.  quiet: the file
    is not shown when a test fails, because the program has a better log.
    Start children from the main thread only: they die with the thread that started them."""

    def __init__(self, lab, name, argv, env=None, cwd=None, quiet=False):
        self.name = name
        self.log = os.path.join(lab.dir, name + '.out')
        if not quiet and self.log not in lab.logs:
            lab.logs.append(self.log)
        full = dict(os.environ, **lab.environment(name))
        full.update(env or {})
        with open(self.log, 'ab') as out:
            self.popen = subprocess.Popen(lab.within.get(name, []) + argv, env=full, cwd=cwd or lab.dir,
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                          preexec_fn=die_with_parent)
        self.pid = self.popen.pid
        lab.processes.append(self)

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, seconds=10):
        """The exit status; a negative number is the signal that ended it."""
        return self.popen.wait(seconds)

    def kill(self):
        """End the whole group, whatever state it is in."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            pass


# ---- name servers ------------------------------------------------------------------------------

class Resolver:
    """A dnsmasq that knows the records given here and answers NXDOMAIN to the rest of .example."""

    def __init__(self, lab, name, ip):
        self.lab = lab
        self.name = name
        self.ip = ip
        self.port = DNS_PORT
        self.lines = []
        self.hosts = {}
        self.process = None

    def address(self, host, *ips):
        self.hosts[host] = ips[0]
        self.lines.append('host-record=%s,%s' % (host, ','.join(ips)))

    def srv(self, domain, target, port, service='_xmpp-server', priority=0, weight=5):
        self.lines.append('srv-host=%s._tcp.%s,%s,%d,%d,%d'
                          % (service, domain, target, port, priority, weight))

    def server(self, domain, ip, port=S2S_PORT, direct=None):
        """The usual set of records of an XMPP domain; port=None leaves out _xmpp-server."""
        host = 'xmpp.' + domain
        self.address(host, ip)
        if port:
            self.srv(domain, host, port)
        if direct:
            self.srv(domain, host, direct, service='_xmpps-server')

    def no_service(self, domain):
        """The target "." of RFC 2782: this service is decidedly not available."""
        self.lines.append('srv-host=_xmpp-server._tcp.' + domain)
        self.lines.append('srv-host=_xmpps-server._tcp.' + domain)

    def wildcard(self, suffix, ip):
        """Every name below a suffix has one address and no SRV record."""
        self.lines.append('address=/%s/%s' % (suffix, ip))

    def start(self):
        config = os.path.join(self.lab.dir, 'dns-%s.conf' % self.name)
        with open(config, 'w') as f:
            f.write('no-resolv\nno-hosts\nport=%d\nbind-interfaces\nlisten-address=%s\npid-file=\n'
                    'local-ttl=1\nlog-queries\nlog-facility=-\nlocal=/example/\n' % (self.port, self.ip))
            if os.geteuid() == 0:
                f.write('user=root\ngroup=root\n')     # a change of identity would undo die_with_parent()
            f.write('\n'.join(self.lines) + '\n')
        self.process = Process(self.lab, 'dns-' + self.name,
                               [find_program('dnsmasq'), '-k', '-C', config])
        wait_until(lambda: port_open(self.ip, self.port) or not self.process.running(), 10, 'dnsmasq')
        if not self.process.running():
            raise HarnessError('dnsmasq ended: ' + read_text(self.process.log))
        return self

    def with_numeric_targets(self, name, ip):
        """The same SRV records with addresses for targets: for whoever cannot look up addresses here."""
        twin = Resolver(self.lab, name, ip)
        for line in self.lines:
            words = line.split(',')
            if len(words) > 1 and words[0].startswith('srv-host'):
                words[1] = self.hosts.get(words[1], words[1])
            twin.lines.append(','.join(words))
        return twin.start()

    def restart(self):
        """Take changed records into use."""
        self.process.kill()
        self.lab.processes.remove(self.process)
        self.start()


# ---- servers -----------------------------------------------------------------------------------

class Host:
    """One domain of a server.  tls: required, optional, off, or broken: offered, but there is no certificate, as
    Debian installs Prosody and ejabberd; secure: certificates must be good;
    component: which part of Prosody it is, instead of a domain of users; settings: more lines of its own."""

    def __init__(self, domain, cert=None, ca=None, tls='required', secure=False, users=('user',),
                 component=None, settings=()):
        self.domain = domain
        self.cert = cert
        self.ca = ca
        self.tls = tls if cert or tls == 'broken' else 'off'
        self.secure = secure
        self.users = [] if component else list(users)
        self.component = component
        self.settings = list(settings)


class Server:
    """What the tests need to know of a running server."""

    def __init__(self, name, kind, ip, s2s_ip, s2s_port):
        self.name = name
        self.kind = kind
        self.c2s = (ip, C2S_PORT)
        self.s2s = (s2s_ip, s2s_port)
        self.processes = []
        self.ready = lambda: True       # what must be true besides that it listens

    def stop(self):
        for p in self.processes:
            p.kill()


def find_program(name):
    path = os.environ.get('PATH', '') + ':/usr/sbin:/sbin:/usr/local/sbin:/usr/bin'
    return shutil.which(name, path=path)


def need_programs(*names):
    """The names of the programs that are not installed."""
    return [n for n in names if not find_program(n)]


def read_text(path):
    try:
        with open(path, errors='replace') as f:
            return f.read()
    except OSError:
        return ''


PROSODY_CONFIG = '''-- generated by tests/live/lab.py
pidfile = "%(dir)s/prosody.pid"; data_path = "%(dir)s/data"; plugin_paths = {}
run_as_root = true; daemonize = false; use_ipv6 = false
log = { { levels = { min = "debug" }; to = "file"; filename = "%(log)s"; timestamps = "%%H:%%M:%%S" } }
modules_enabled = { "roster"; "saslauth"; "tls"; "dialback"; "disco"; "ping"; "version"; "presence";
    "message"; "iq"; "c2s"; "s2s"; "s2s_auth_certs"; "smacks"; %(modules)s }
c2s_interfaces = { "%(ip)s" }; c2s_ports = { %(c2s)d }
c2s_require_encryption = false; allow_unencrypted_plain_auth = true
s2s_interfaces = { "%(s2s_ip)s" }; s2s_ports = { %(s2s_port)d }
s2s_direct_tls_interfaces = { "%(ip)s" }; s2s_direct_tls_ports = { %(direct)s }
unbound = { resolvconf = false; hoststxt = false; forward = "%(dns_ip)s@%(dns_port)d";
    options = { ["do-not-query-localhost:"] = "no" } }
authentication = "internal_plain"; storage = "internal"
limits = {}
'''


def prosody_ssl(host):
    return ('ssl = { certificate = "%s"; key = "%s"; cafile = "%s"; capath = ""; }'
            % (host.cert.chain, host.cert.key, host.ca.crt))


def prosody_host(host):
    lines = ['Component "%s" "%s"' % (host.domain, host.component) if host.component
             else 'VirtualHost "%s"' % host.domain]
    if host.tls == 'off':
        lines.append('modules_disabled = { "tls" }')
    elif host.tls != 'broken':
        lines.append(prosody_ssl(host))
    lines.append('s2s_require_encryption = %s' % ('true' if host.tls == 'required' else 'false'))
    lines.append('s2s_secure_auth = %s' % ('true' if host.secure else 'false'))
    return '\n    '.join(lines + host.settings) + '\n'


def prosody_account(folder, domain, user):
    """Prosody's own file format, written directly: much faster than prosodyctl."""
    def name(text):
        return re.sub(r'[^A-Za-z0-9]', lambda m: '%%%02x' % ord(m[0]), text.encode().decode('latin-1'))
    where = os.path.join(folder, 'data', name(domain), 'accounts')
    os.makedirs(where, exist_ok=True)
    with open(os.path.join(where, name(user) + '.dat'), 'w') as f:
        f.write('return { ["password"] = "%s" };\n' % PASSWORD)


EJABBERD_CONFIG = '''# generated by tests/live/lab.py
hosts: [%(hosts)s]
loglevel: info
%(certfiles)s
listen:
  - {port: %(c2s)d, ip: "%(ip)s", module: ejabberd_c2s, starttls: false, shaper: none}
  - {port: %(s2s_port)d, ip: "%(s2s_ip)s", module: ejabberd_s2s_in, shaper: none}
%(listen)ss2s_use_starttls: %(tls)s
s2s_max_retry_delay: 1
outgoing_s2s_families: [ipv4]
outgoing_s2s_ipv4_address: "%(s2s_ip)s"
# any name may log in, with any password, and has a roster while the session lasts
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
disable_sasl_mechanisms: ["digest-md5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "X-OAUTH2"]
acl: {}
access_rules: {c2s: {allow: all}}
modules: {mod_ping: {}, mod_disco: {}, mod_roster: {}, mod_version: {}, mod_s2s_dialback: {}}
'''


latest = None     # the lab of this process, for reports of a broken harness


class Lab:
    def __init__(self):
        global latest
        latest = self
        sweep()
        keep = os.environ.get('XMPPEDGE_KEEP')
        self.dir = tempfile.mkdtemp(prefix='xmppedge-%s-%d-' % ('kept' if keep else 'live', os.getpid()))
        os.chmod(self.dir, 0o755)
        self.net, self.lock = claim_network()
        self.processes = []
        self.logs = []           # files worth showing when a test fails
        self.seen = {}           # log file -> bytes shown or passed over
        self.closers = []        # functions to call at the end
        self.spare = 240         # addresses counted down, for what needs just any
        self.environment = lambda name: {}      # variables for the process of this name
        self.within = {}         # name of a process -> what its command begins with (machine.py)
        self.closed = False
        self.owner = os.getpid()
        adopt_orphans()
        atexit.register(self.close)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda n, frame: sys.exit(128 + n))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        if self.closed or os.getpid() != self.owner:
            return
        self.closed = True
        for close in self.closers:
            close()
        for p in self.processes:
            p.kill()
        collect_orphans()
        self.lock.close()
        if os.environ.get('XMPPEDGE_KEEP'):
            print('# kept', self.dir, flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    # -- places

    def ip(self, n):
        return '%s.%d' % (self.net, n)

    def spare_ip(self):
        self.spare -= 1
        return self.ip(self.spare)

    def folder(self, name):
        path = os.path.join(self.dir, name)
        os.makedirs(path, exist_ok=True)
        return path

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, 'w') as f:
            f.write(text)
        return path

    def authority(self, name, *more):
        return Authority(self, name, *more)

    def resolver(self, name, ip):
        return Resolver(self, name, ip)

    # -- logs

    def mark_logs(self):
        """From here on only news is shown."""
        for log in self.logs:
            self.seen[log] = os.path.getsize(log) if os.path.exists(log) else 0

    def dump_logs(self, lines=40, show=lambda line: print('#   ' + line)):
        for log in self.logs:
            if not os.path.exists(log):
                continue
            with open(log, 'rb') as f:
                f.seek(self.seen.get(log, 0))
                text = f.read().decode(errors='replace').splitlines()
            if text:
                show('--- %s (last %d of %d new lines)'
                     % (os.path.relpath(log, self.dir), min(lines, len(text)), len(text)))
                for line in text[-lines:]:
                    show(line[:400])

    # -- servers

    def prosody(self, name, ip, dns, hosts, s2s=None, direct=False, modules=(), settings='',
                more=''):
        """s2s: another (address, port) for the server-to-server listener, for a server whose
        outgoing connections must come from the address it listens on (they come from 127.0.0.1).
        modules: besides the usual ones; settings: more lines for all hosts; more: further sections."""
        s2s_ip, s2s_port = s2s or (ip, S2S_PORT)
        folder = self.folder(name)
        log = os.path.join(folder, 'prosody.log')
        self.logs.append(log)
        config = PROSODY_CONFIG % {
            'dir': folder, 'log': log, 'ip': ip, 'c2s': C2S_PORT, 's2s_ip': s2s_ip, 's2s_port': s2s_port,
            'direct': DIRECT_PORT if direct else '', 'dns_ip': dns.ip, 'dns_port': dns.port,
            'modules': ' '.join('"%s";' % m for m in modules)} + settings
        # a pre-1.0 stream header names no host: then the setting outside the hosts counts
        config += 's2s_require_encryption = %s\n' % (
            'true' if all(h.tls == 'required' for h in hosts) else 'false')
        if direct:      # its port belongs to no host
            config += prosody_ssl(hosts[0]) + '\n'
        for host in hosts:
            config += prosody_host(host)
            for user in host.users:
                prosody_account(folder, host.domain, user)
        path = self.write(name + '/prosody.cfg.lua', config + more)
        server = Server(name, 'Prosody', ip, s2s_ip, s2s_port)
        server.processes.append(Process(self, name, [find_program('prosody'), '--config', path, '-F']))
        return server

    def ejabberd(self, name, ip, dns, hosts, s2s=None, listen=''):
        """Erlang without distribution: no node name, no cookie, no epmd.  listen: further listeners."""
        s2s_ip, s2s_port = s2s or (ip, S2S_PORT)
        dns = dns.with_numeric_targets(dns.name + '-' + name, self.spare_ip())
        folder = self.folder(name)
        log = os.path.join(folder, 'ejabberd.log')
        self.logs.append(log)
        certs = [h.cert.pem for h in hosts if h.cert]
        certfiles = 'certfiles: [%s]\nca_file: "%s"' % (
            ', '.join('"%s"' % c for c in certs), hosts[0].ca.crt) if certs else ''
        tls = hosts[0].tls
        config = self.write(name + '/ejabberd.yml', EJABBERD_CONFIG % {
            'hosts': ', '.join('"%s"' % h.domain for h in hosts), 'certfiles': certfiles,
            'c2s': C2S_PORT, 'ip': ip, 's2s_ip': s2s_ip, 's2s_port': s2s_port, 'listen': listen,
            'tls': {'off': 'false', 'broken': 'optional'}.get(tls, tls)})
        inetrc = self.write(name + '/inetrc',
                            '{lookup,[dns]}.\n{resolv_conf,""}.\n{hosts_file,""}.\n{nameserver,{%s},%d}.\n'
                            % (dns.ip.replace('.', ','), dns.port))
        env = {'EJABBERD_CONFIG_PATH': config, 'EJABBERD_LOG_PATH': log, 'ERL_INETRC': inetrc,
               'ERL_CRASH_DUMP': '/dev/null', 'HOME': folder,
               'ERL_LIBS': os.path.dirname(find_ejabberd())}
        argv = ['erl', '+S', '2:2', '+P', '20000', '+Q', '4096', '+sbwt', 'none', '-noinput', '-noshell',
                '-mnesia', 'dir', '"%s/spool"' % folder, '-s', 'ejabberd']
        server = Server(name, 'ejabberd', ip, s2s_ip, s2s_port)
        server.processes.append(Process(self, name, argv, env, cwd=folder, quiet=True))
        return server

    def jabberd2(self, name, ip, dns, host, s2s=None):
        from jabberd2 import start_jabberd2     # its four configuration files fill a page of their own
        return start_jabberd2(self, name, ip, dns, host, s2s or (ip, S2S_PORT))

    def wait_ready(self, *servers):
        """All servers accept clients and servers."""
        for server in servers:
            wait_until(lambda: self.accepts(server), START_SECONDS, server.name + ' to listen')

    def accepts(self, server):
        for p in server.processes:
            if not p.running():
                raise HarnessError('%s ended while starting: %s' % (p.name, read_text(p.log)[-2000:]))
        return port_open(*server.c2s) and port_open(*server.s2s) and server.ready()


def find_ejabberd():
    """The folder of the ejabberd application, of which Erlang must know the parent."""
    found = glob.glob('/usr/lib/*/ejabberd-*/ebin/ejabberd.app') + \
        glob.glob('/usr/lib/*/ejabberd-*/ebin/ejabberd.beam') + \
        glob.glob('/usr/lib/ejabberd*/ebin/ejabberd.beam')
    return os.path.dirname(os.path.dirname(found[0])) if found else None
