#!/usr/bin/env python3
"""demo.t -- what `make demo` shows: it works, tells what happened, and leaves nothing behind.

Each demo runs in a session of its own with a temporary directory of its own, so that what it leaves can
be counted.  XMPPEDGE and XMPPEDGE_ANALYZE name other binaries.
"""
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, 'live'))

from tap import Skip, check, test, tests   # noqa: E402

BINARY = os.path.abspath(os.environ.get('XMPPEDGE') or os.path.join(HERE, '..', 'xmppedge'))
DEMO = ('sh', os.path.join(HERE, 'demo.sh'))
PATIENCE = 60       # seconds; a demo takes two, and the machine may be busy


def hear_interrupts():
    """A shell cannot trap what its parent ignores, as one in the background does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Demo:
    """A demo under way.  Its standard output and error go to one file."""

    def __init__(self, *arguments, command=(), user=None):
        self.tmp = tempfile.mkdtemp(prefix='demo-t-', dir='/tmp')
        self.path = os.path.join(self.tmp, 'output')
        if user is not None:
            os.chown(self.tmp, user, user)
        self.began = time.monotonic()
        with open(self.path, 'w') as out:
            self.process = subprocess.Popen(
                [*command, *DEMO, *arguments], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=hear_interrupts,
                env={**os.environ, 'TMPDIR': self.tmp, 'XMPPEDGE': BINARY},
                **({} if user is None else {'user': user, 'group': user, 'extra_groups': []}))

    def output(self):
        with open(self.path) as file:
            return file.read()

    def wait(self):
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError('the demo does not end:\n' + self.output())

    def wait_for(self, text):
        """Wait until the output has this text; the match."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            hit = re.search(text, self.output())
            if hit:
                return hit
            time.sleep(0.01)
        raise AssertionError('expected %s, found:\n%s' % (text, self.output()))

    def members(self):
        """Processes of its session that are alive."""
        alive = []
        for name in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open('/proc/%s/stat' % name) as file:
                    state, _, _, session = file.read().rpartition(')')[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state not in 'ZX':
                alive.append(int(name))
        return alive

    def left(self):
        """What it has left in its temporary directory."""
        return sorted(set(os.listdir(self.tmp)) - {'output'})

    def wait_until_gone(self):
        until = time.monotonic() + PATIENCE
        while self.members() and time.monotonic() < until:
            time.sleep(0.02)
        check(not self.members(), 'processes left: %s' % self.members())

    def kept(self):
        """The directory of a demo --keep that has got so far."""
        return self.wait_for(r'xmppedge status (\S+)/edge.xml').group(1)

    def pids(self):
        """Those of a demo --keep: partner, edge, gateway."""
        return [int(p) for p in self.wait_for(r'\((\d+), (\d+), (\d+)\) go on').groups()]

    def clean(self):
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        shutil.rmtree(self.tmp)


class Stage:
    """Demos of one test; cleaned up whatever happens."""

    def __enter__(self):
        self.demos = []
        return self

    def __exit__(self, *_):
        for demo in self.demos:
            demo.clean()

    def demo(self, *arguments, **more):
        self.demos.append(Demo(*arguments, **more))
        return self.demos[-1]


ADDRESS = r'127\.\d+\.\d+\.\d+:\d+'


def rows(output):
    """The port table: {first word: (verdict, lines of evidence)}."""
    return {hit.group(1): (hit.group(3), hit.group(4).split('\n' + 10 * ' ')) for hit in re.finditer(
        r'^   (1|2|3|never) +(any|external|gateway|edge) -> \S+ +(ok|failed)\n {10}(.*(?:\n {10}.*)*)$',
        output, re.M)}


def check_good(demo, code=0):
    output = demo.output()
    check(demo.wait() == code, 'exit code %s:\n%s' % (demo.process.returncode, demo.output()))
    output = demo.output()
    table = rows(output)
    check(sorted(table) == ['1', '2', '3', 'never'], 'expected four rows, found:\n' + output)
    check(all(verdict == 'ok' for verdict, _ in table.values()), output)
    return table


def cast(output):
    """Addresses of partner, external, internal."""
    hit = re.search(r'^   partner +(%s)\n   edge +(%s) external, (%s) internal$' % ((ADDRESS,) * 3),
                    output, re.M)
    check(hit is not None, output)
    return hit.groups()


def run(*arguments):
    done = subprocess.run([BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE, universal_newlines=True)
    return done.returncode, done.stdout


@test
def it_works_and_leaves_nothing(stage):
    demo = stage.demo()
    check_good(demo)
    took = time.monotonic() - demo.began
    check(re.search(r'All of it worked, in less than \d+ s\.\n$', demo.output()), demo.output())
    check(demo.left() == [], 'left behind: %s' % demo.left())
    check(demo.members() == [], 'processes left: %s' % demo.members())
    check(demo.tmp not in demo.output(), 'it names a folder that is gone:\n' + demo.output())
    print('# %.1f s' % took)


@test
def it_fits_a_terminal(stage):
    demo = stage.demo()
    check_good(demo)
    wide = [line for line in demo.output().splitlines() if len(line) > 80]
    check(not wide, 'more than 80 columns:\n' + '\n'.join(wide))


@test
def the_rows_name_the_connections(stage):
    demo = stage.demo()
    table = check_good(demo)
    partner, external, internal = cast(demo.output())
    host = lambda address: re.escape(address.rpartition(':')[0])
    for row, wanted, proof in (
            ('1', host(partner) + r':\d+ -> ' + re.escape(external), 'sasl-external, 4 stanzas'),
            ('2', host(external) + r':\d+ -> ' + re.escape(partner), 'sasl-external, 4 stanzas'),
            ('3', ADDRESS + ' -> ' + re.escape(internal), 'both certificates, 8 stanzas')):
        path, facts = table[row][1]
        check(re.fullmatch(wanted, path), 'row %s: expected %s, found %s' % (row, wanted, path))
        check(re.fullmatch(r'TLSv1\.[23], ' + proof, facts), 'row %s: %s' % (row, facts))


@test
def a_message_goes_each_way_and_comes_back(stage):
    demo = stage.demo()
    check_good(demo)
    for side, other in (('fabrikam.example', 'corp.example'), ('corp.example', 'fabrikam.example')):
        for said in (r'%s pings %s: answered (after|within) \d+ ms' % (side, other),
                     r'%s says "hello across the border": it came back (after|within) \d+ ms' % side):
            check(re.search('^   ' + said + '$', demo.output(), re.M), demo.output())


@test
def several_at_once_do_not_disturb_each_other(stage):
    demos = [stage.demo() for _ in range(4)]
    addresses = set()
    for demo in demos:
        check_good(demo)
        addresses.update(cast(demo.output()))
        check(demo.left() == [] and demo.members() == [], 'something is left')
    check(len(addresses) == 12, str(sorted(addresses)))


@test
def keep_leaves_the_stage_to_the_user(stage):
    demo = stage.demo('--keep')
    folder = demo.kept()
    demo.wait_for('Ctrl-C ends them')
    check(set(demo.pids()) < set(demo.members()), 'the processes are others than those named')
    # the very lines that it prints
    lines = re.findall(r'^   (\S*/xmppedge .*)$', demo.output(), re.M)
    check([line.split()[1] for line in lines] == ['status', 'ping', 'ping', 'explain', 'ports'], str(lines))
    for line in lines:
        done = subprocess.run(line, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        said = done.stdout.decode()
        check(done.returncode == 0, '%s: %s' % (line, said))
        if ' ping ' in line:
            check(re.match(r'ok \d+ ms\n$', said), said)
    for node, domain, wanted in (('edge', 'fabrikam.example', 0), ('edge', 'corp.example', 0),
                                 ('partner', 'fabrikam.example', 0), ('gateway', 'corp.example', 0),
                                 ('partner', 'nowhere.example', 1), ('gateway', 'nowhere.example', 1)):
        code, said = run('ping', '%s/%s.xml' % (folder, node), domain)
        check(code == wanted, '%s pings %s: %s' % (node, domain, said))
        check(said.startswith('failed why=' if wanted else 'ok '), said)
    code, said = run('status', folder + '/edge.xml', '--json')
    check(code == 0 and '"role":"edge"' in said, said)
    # what it wrote is for its user alone
    check(stat.S_IMODE(os.stat(folder).st_mode) == 0o700, 'mode of the directory')
    for path, _, names in os.walk(folder):
        for name in names:
            check(os.stat(os.path.join(path, name)).st_mode & 0o077 == 0, 'mode of ' + name)
    demo.process.send_signal(signal.SIGINT)
    check_good(demo)
    check(demo.members() == [], 'processes left')
    check(os.path.exists(folder + '/edge.log'), 'the directory is gone')


@test
def the_certificates_are_good(stage):
    if shutil.which('openssl') is None:
        raise Skip('no openssl')
    demo = stage.demo('--keep')
    folder = demo.kept()
    demo.wait_for('Ctrl-C ends them')
    for authority, domain in (('public', 'fabrikam.example'), ('public', 'corp.example'),
                              ('trunk', 'edge01.corp.example'), ('trunk', 'fe01.corp.example')):
        done = subprocess.run(
            ['openssl', 'verify', '-no-CApath', '-CAfile', 'internal-ca.pem', '-verify_hostname', domain,
             domain + '.pem'], cwd=os.path.join(folder, authority), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, universal_newlines=True)
        check(done.returncode == 0, done.stdout)


def check_interrupted(demo):
    code = demo.wait()
    check(code == 0 if 'All of it worked' in demo.output() else code == 1, 'exit code %d' % code)
    check(demo.members() == [], 'processes left')
    check(demo.left() == [], 'left behind: %s' % demo.left())


@test
def a_terminated_demo_cleans_up(stage):
    for pause in (0.0, 0.1, 0.3, 1.0):
        demo = stage.demo()
        demo.wait_for('Three processes')
        time.sleep(pause)
        demo.process.send_signal(signal.SIGTERM)
        check_interrupted(demo)


@test
def control_c_reaches_all_processes_and_cleans_up(stage):
    for pause in (0.0, 0.2, 0.6):
        demo = stage.demo()
        demo.wait_for('Three processes')
        time.sleep(pause)
        os.killpg(demo.process.pid, signal.SIGINT)
        check_interrupted(demo)
    demo = stage.demo('--keep')
    demo.wait_for('Ctrl-C ends them')
    os.killpg(demo.process.pid, signal.SIGINT)
    check_good(demo)
    check(demo.members() == [], 'processes left')


@test
def children_end_when_the_demo_is_killed(stage):
    demo = stage.demo('--keep')
    demo.wait_for('Ctrl-C ends them')
    demo.process.kill()
    demo.wait()
    demo.wait_until_gone()


@test
def a_process_that_dies_is_reported(stage):
    demo = stage.demo('--keep')
    folder = demo.kept()
    demo.wait_for('Ctrl-C ends them')
    os.kill(demo.pids()[2], signal.SIGKILL)
    check(demo.wait() == 1, 'exit code %d' % demo.process.returncode)
    check('the gateway has ended with signal 9' in demo.output(), demo.output())
    check('logs are left in ' + folder in demo.output(), demo.output())
    check(demo.members() == [], 'processes left')
    check(len(demo.left()) == 1, 'the directory has to stay')


@test
def a_wrong_option_is_refused(stage):
    demo = stage.demo('--wrong')
    check(demo.wait() == 2, 'exit code %d' % demo.process.returncode)
    check('unknown option --wrong' in demo.output(), demo.output())
    check(demo.left() == [], 'left behind: %s' % demo.left())


@test
def it_works_for_an_ordinary_user(stage):
    if os.geteuid() != 0:
        raise Skip('all the others were run by one')
    if sys.version_info < (3, 9):
        raise Skip('needs Python 3.9')
    if not all(os.stat(p).st_mode & 0o005 == 0o005 for p in parents(BINARY)):
        raise Skip('an ordinary user cannot reach ' + BINARY)
    demo = stage.demo(user=65534)
    check_good(demo)
    check(demo.left() == [], 'left behind: %s' % demo.left())


@test
def it_ends_with_the_analyzer_over_its_own_traffic(stage):
    demo = stage.demo()
    check_good(demo)
    if 'does not allow one' in demo.output():
        check(re.search('permission|permitted', demo.output(), re.I), demo.output())
        raise Skip('nothing can be captured here')
    report = demo.output().partition('What xmppedge-analyze says')[2]
    for row in '1', '2', '3':
        check(re.search(r'^ %s +XMPP/.* works$' % row, report, re.M), 'row %s:\n%s' % (row, report))
        # TLS 1.3 hides the client certificate from who has no keys
        check(re.search(r'^ row %s +conforms(, mutual TLS inferred from record\s+lengths)?;' % row, report, re.M),
              'row %s:\n%s' % (row, report))

    ways = re.findall(r'^   (?:in 3|in|out) .* (\S+)$', report, re.M)
    check(ways == ['?'] * 3, 'stanzas inside TLS are not counted: %s' % ways)


@test
def who_may_not_capture_is_told_so(stage):
    if os.geteuid() != 0 or sys.version_info < (3, 9):
        raise Skip('needs root, to become somebody who may not')
    if not all(os.stat(p).st_mode & 0o005 == 0o005 for p in parents(BINARY)):
        raise Skip('an ordinary user cannot reach ' + BINARY)
    demo = stage.demo(user=65534)
    check_good(demo)
    check('does not allow one' in demo.output(), demo.output())
    check(re.search('permission|permitted', demo.output(), re.I), demo.output())
    check(demo.left() == [], 'left behind: %s' % demo.left())


def parents(path):
    while path != '/':
        yield path
        path = os.path.dirname(path)


def need_namespaces(script):
    """A command prefix: a network of its own with a loopback interface, then `script`."""
    setup = 'ip link set lo up || exit 77; %s; exec "$@"' % script
    command = ['unshare', '-n'] if os.geteuid() == 0 else ['unshare', '-rn']
    try:
        code = subprocess.run([*command, 'sh', '-c', setup, 'sh', 'true'], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=PATIENCE).returncode
    except OSError:
        code = 127
    if code != 0:
        raise Skip('no network namespaces here')
    return [*command, 'sh', '-c', setup, 'sh']


@test
def taken_ports_are_no_obstacle(stage):
    listener = ('import os, socket, sys; s = socket.socket(); s.bind(("0.0.0.0", 5269)); s.listen(1); '
                's.set_inheritable(True); os.execvp(sys.argv[1], sys.argv[1:])')
    demo = stage.demo(command=[*need_namespaces(':'), sys.executable, '-c', listener])
    check_good(demo)
    check('The standard ports are in use' in demo.output(), demo.output())
    check('What xmppedge-analyze says' in demo.output() or 'does not allow' in demo.output(), demo.output())
    check(not any(address.endswith(':5269') for address in cast(demo.output())), demo.output())


@test
def one_address_and_no_ipv6_will_do(stage):
    script = ('sysctl -qw net.ipv6.conf.all.disable_ipv6=1 2>/dev/null || true; '
              'ip addr add 127.0.0.1/32 dev lo; ip route flush table local type local 127.0.0.0/8')
    demo = stage.demo(command=need_namespaces(script))
    check_good(demo)
    if 'This machine has one loopback address' not in demo.output():
        raise Skip('other loopback addresses cannot be taken away here')
    check(all(address.startswith('127.0.0.1:') for address in cast(demo.output())), demo.output())


def main():
    if not os.access(BINARY, os.X_OK):
        print('1..0 # SKIP no ' + BINARY)
        return 0
    chosen = [t for t in tests if len(sys.argv) < 2 or any(word in t.__name__ for word in sys.argv[1:])]
    print('1..%d' % len(chosen), flush=True)
    failed = 0
    for number, function in enumerate(chosen, 1):
        name = function.__name__.replace('_', ' ')
        try:
            with Stage() as stage:
                function(stage)
        except Skip as e:
            print('ok %d - %s # SKIP %s' % (number, name, e), flush=True)
        except Exception as e:
            failed += 1
            print('not ok %d - %s' % (number, name))
            for line in ('%s: %s' % (type(e).__name__, e)).splitlines():
                print('# ' + line, flush=True)
        else:
            print('ok %d - %s' % (number, name), flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
