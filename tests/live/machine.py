"""machine.py -- machines with networks and files of their own, and what README.md tells to do on them.

Each machine has the addresses of README.md, a /etc, /run and folders of servers that are copies, and one cable to all
others, whatever their addresses are.  So its configurations, and those of Debian's packages, are used as they stand.

    block('The edge, in the DMZ', 'xml')        the block of that language behind these words
    inline(paragraph('**Two edges**'), ...)     words of the paragraph that begins so
    with_elements, with_settings, with_keys     a file changed as a block says: XML, Lua, YAML
"""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from edge import HERE, Node, binary
from lab import HarnessError, Process, port_open, read_text, wait_until
from tap import check, skip_all

README = os.path.join(HERE, '..', '..', 'README.md')
SWITCH = '10.255.255.1'         # of the test itself, which talks to all of them

# What a machine has for itself, beside /etc; that of a package is there when the package is.
FOLDERS = ['/run', '/var/lib/prosody', '/var/log/prosody', '/var/lib/ejabberd', '/var/log/ejabberd']
INSIDE = '''
root=$1; shift
cp -a /etc "$root"
for folder; do
    test -d "$folder" || continue
    mkdir -p "$root$folder"
    chown --reference="$folder" "$root$folder"
    mount --bind "$root$folder" "$folder"
done
mount --bind "$root/etc" /etc
ip link set lo up
: >"$root/ready"
exec sleep infinity
'''


# ---- networks ----------------------------------------------------------------------------------

def own_network(script):
    """Begin again in a network where the machines are plugged in."""
    if os.geteuid() != 0:
        skip_all('only root can make machines')
    if os.environ.get('XMPPEDGE_MACHINES') == 'inside':
        return
    if subprocess.call(['unshare', '-n', '-m', 'ip', 'link', 'add', 'switch', 'type', 'bridge'],
                       stderr=subprocess.DEVNULL) != 0:
        skip_all('no network of its own can be made here')
    os.environ['XMPPEDGE_MACHINES'] = 'inside'
    os.execvp('unshare', ['unshare', '-n', sys.executable, os.path.abspath(script)] + sys.argv[1:])


def sh(text, *words):
    done = subprocess.run(['sh', '-ec', text, 'sh'] + list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise HarnessError('%s: %s' % (text.strip(), done.stdout))


def make_switch():
    sh('''ip link set lo up
          ip link add switch type bridge
          ip address add "$1" dev switch
          ip link set switch up
          ip route add default dev switch src "$1"''', SWITCH)


class Machine:
    """nameserver: what its /etc/resolv.conf names."""

    def __init__(self, lab, name, *addresses, nameserver=None):
        self.lab, self.name, self.addresses = lab, name, addresses
        self.root = lab.folder('machines/' + name)
        holder = Process(lab, 'machine-' + name,
                         ['unshare', '-n', '-m', 'sh', '-ec', INSIDE, 'sh', self.root] + FOLDERS)
        wait_until(lambda: os.path.exists(self.root + '/ready') or not holder.running(), 20, name)
        if not holder.running():
            raise HarnessError('%s: %s' % (name, read_text(holder.log)))
        self.prefix = ['nsenter', '-t', str(holder.pid), '-n', '-m', '--']
        sh('''ip link add "$1" type veth peer name lan netns "$2"
              ip link set "$1" master switch up''', name, str(holder.pid))
        for address in addresses:
            self.must('ip', 'address', 'add', address, 'dev', 'lan')
        self.must('ip', 'link', 'set', 'lan', 'up')
        self.must('ip', 'route', 'add', 'default', 'dev', 'lan', 'src', addresses[0])
        self.write('/etc/resolv.conf', 'nameserver %s\n' % nameserver if nameserver else '')

    # -- files

    def path(self, name):
        return self.root + name

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def write(self, name, text):
        """Owner and mode of what is there stay."""
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        if os.path.islink(self.path(name)):
            os.unlink(self.path(name))
        with open(self.path(name), 'w') as f:
            f.write(text)

    def change(self, name, change, *more):
        self.write(name, change(self.read(name), *more))

    # -- programs

    def start(self, name, argv, user=None, env=None, **more):
        self.place(name)
        become = ['setpriv', '--reuid', user, '--regid', user, '--init-groups',
                  '--reset-env', '--pdeathsig', 'KILL'] if user else []
        return Process(self.lab, name, become + argv, env, **more)

    def place(self, *names):
        """Processes of these names run here."""
        for name in names:
            self.lab.within[name] = self.prefix

    def command(self, *argv, seconds=30):
        done = subprocess.run(self.prefix + list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds)
        return done.returncode, done.stdout.decode(errors='replace')

    def must(self, *argv):
        status, said = self.command(*argv)
        check(status == 0, '%s: %s ends with %d: %s' % (self.name, ' '.join(argv), status, said))
        return said

    def wait_port(self, address, port, seconds=20):
        wait_until(lambda: port_open(address, port), seconds, 'port %d of %s' % (port, self.name))


class Service(Node):
    """A node whose files are where README.md puts them."""

    def __init__(self, machine, role):
        super().__init__(machine.lab, machine.name, None)
        self.machine, self.path = machine, '/etc/xmppedge/%s.xml' % role
        for folder in ('/run/xmppedge', '/etc/xmppedge'):
            os.makedirs(machine.path(folder))

    def write(self, text):
        self.machine.write(self.path, text)

    def start(self):
        self.process = self.machine.start(self.name, [binary(), 'run', self.path])
        return self

    def command(self, *words, seconds=20):
        return self.machine.command(binary(), *words, seconds=seconds)


# ---- what README.md says -----------------------------------------------------------------------

def block(after, language, text=None):
    """The first block of this language behind these words, which stand in one place, wherever lines end."""
    text = text or read_text(README)
    begins = [m.end() for m in re.finditer(r'\s+'.join(map(re.escape, after.split())), text)]
    check(len(begins) == 1, 'places in README.md with %r: %d' % (after, len(begins)))
    lines = text[begins[0]:].splitlines()[1:]
    fence = [i for i, line in enumerate(lines) if line.strip() == '```' + language]
    check(fence, 'no block of %s in README.md behind %r' % (language, after))
    end = next(i for i, line in enumerate(lines) if i > fence[0] and line.strip() == '```')
    return '\n'.join(lines[fence[0] + 1:end]) + '\n'


def paragraph(begins):
    """What README.md says there, as one line."""
    found = [text for text in read_text(README).split('\n\n') if text.startswith(begins)]
    check(len(found) == 1, 'paragraphs of README.md that begin with %r: %d' % (begins, len(found)))
    return ' '.join(found[0].split())


def inline(text, pattern):
    found = re.search(pattern, text)
    check(found, 'README.md says nothing like %s in: %s' % (pattern, text))
    return found.groups()


def with_elements(document, fragment):
    """The document with these elements in the place of those of the same name."""
    top, new = ElementTree.fromstring(document), ElementTree.fromstring('<new>%s</new>' % fragment)
    for name in {e.tag for e in new}:
        old = top.findall(name)
        at = list(top).index(old[0]) if old else len(top)
        for e in old:
            top.remove(e)
        for e in reversed(new.findall(name)):
            top.insert(at, e)
    return ElementTree.tostring(top, encoding='unicode')


def with_settings(config, settings):
    """A configuration of Prosody with these settings above its first VirtualHost, instead of its own."""
    names = re.findall(r'^(\w+) *=', settings, re.M)
    kept, depth = [], 0
    for line in config.splitlines(keepends=True):
        word = re.match(r'(\w+) *=', line)
        if depth > 0 or word and word[1] in names:
            bare = line.split('--')[0]
            depth += bare.count('{') - bare.count('}')
        else:
            kept.append(line)
    at = next(i for i, line in enumerate(kept) if line.startswith('VirtualHost'))
    return ''.join(kept[:at]) + settings + ''.join(kept[at:])


def with_keys(config, keys):
    """A configuration of ejabberd with these keys in the place of those that are there, however deep they are."""
    lines, path = config.splitlines(), []
    for line in keys.splitlines():
        word = re.match(r'( *)([\w-]+): *([^#]*)', line)
        path = [(i, name) for i, name in path if i < len(word[1])] + [(len(word[1]), word[2])]
        lines = with_key(lines, [name for _, name in path], word[3].strip())
    return '\n'.join(lines) + '\n'


def with_key(lines, names, value):
    start, end, indent = 0, len(lines), 0
    for depth, name in enumerate(names):
        at = [i for i in range(start, end) if lines[i].startswith(' ' * indent + name + ':')]
        if not at:
            return lines[:start] + [' ' * indent + name + ': ' + value] + lines[start:]
        start = at[0] + 1
        end = next((i for i in range(start, end) if re.match(' {0,%d}[^ #]' % indent, lines[i])), end)
        indent += 2
    if value:
        lines = lines[:start - 1] + [' ' * (indent - 2) + names[-1] + ': ' + value] + lines[end:]
    return lines
