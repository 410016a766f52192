#!/usr/bin/env python3
"""47-manager.t -- what a service manager hears of a node: a socket here takes the place of systemd's.

Both kinds of socket, every message in its order, and the port that must be open when it says that it is ready.
And the journal: lines have priorities where the manager says that it reads them, and only there.
"""
import os
import re
import socket
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Pki, begin, listening, partner                           # noqa: E402
from lab import Lab, read_text                                                  # noqa: E402
from scene import World                                                         # noqa: E402
from tap import check, equal, test                                              # noqa: E402


class Manager:
    """The socket that NOTIFY_SOCKET names."""

    def __init__(self, lab, name, **more):
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind('\0' + name[1:] if name.startswith('@') else name)
        lab.closers.append(self.sock.close)
        lab.environment = lambda node: dict(NOTIFY_SOCKET=name, **more)

    def hear(self, seconds=15):
        """The next message as a table."""
        self.sock.settimeout(seconds)
        text = self.sock.recv(4096).decode()
        return dict(line.split('=', 1) for line in text.splitlines())


def node(w, name):
    lab = w.lab
    return Edge(lab, name, lab.ip(21), lab.ip(31), w.pki, w.dns, {'corp.example': w.cert}, [partner('raw.example')])


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.dns = lab.resolver('outside', lab.ip(2))
    w.cert = pki.public.issue('corp.example')
    return w


def from_start_to_end(w, manager):
    edge = node(w, 'edge01')
    edge.start(wait=False)
    said = manager.hear()
    equal(said.get('READY'), '1', 'first message')
    check(said['STATUS'], 'no status')
    check(listening(*edge.external) and listening(*edge.internal), 'it is ready and does not listen')
    edge.reload()
    before = time.monotonic() - 1
    said = manager.hear()
    equal(said.get('RELOADING'), '1', 'second message')
    check(before * 1e6 < int(said['MONOTONIC_USEC']) <= time.monotonic() * 1e6, 'not now: ' + said['MONOTONIC_USEC'])
    equal(manager.hear().get('READY'), '1', 'third message')
    equal(edge.terminate(), 0, 'exit status')
    equal(manager.hear().get('STOPPING'), '1', 'last message')


@test
def a_socket_with_a_path_hears_it(w):
    from_start_to_end(w, Manager(w.lab, os.path.join(w.lab.dir, 'notify')))


@test
def an_abstract_socket_hears_it(w):
    from_start_to_end(w, Manager(w.lab, '@xmppedge-test-%d' % os.getpid()))


@test
def a_reload_that_is_refused_is_told_and_it_is_ready_again(w):
    manager = Manager(w.lab, os.path.join(w.lab.dir, 'refused'))
    edge = node(w, 'edge01')
    edge.start(wait=False)
    manager.hear()
    with open(edge.path, 'w') as f:
        f.write('<xmppedge')
    edge.reload()
    equal(manager.hear().get('RELOADING'), '1', 'message')
    said = manager.hear()
    equal(said.get('READY'), '1', 'message')
    check('edge01.xml:1: ' in said['STATUS'], said['STATUS'])
    edge.terminate()


@test
def the_watchdog_hears_it_twice_in_its_time(w):
    manager = Manager(w.lab, os.path.join(w.lab.dir, 'watchdog'), WATCHDOG_USEC='1000000')
    edge = node(w, 'edge01')
    edge.start(wait=False)
    manager.hear()
    began = time.monotonic()
    for n in range(4):
        equal(manager.hear(1).get('WATCHDOG'), '1', 'message')
    took = time.monotonic() - began
    check(1.5 < took < 3, '4 messages took %.1f s' % took)
    edge.terminate()


@test
def who_had_no_room_for_it_is_told_again(w):
    manager = Manager(w.lab, os.path.join(w.lab.dir, 'full'))
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    w.lab.closers.append(other.close)
    other.setblocking(False)
    try:
        while True:
            other.sendto(b'OTHER=1', manager.name)
    except BlockingIOError:
        pass
    edge = node(w, 'edge01')
    edge.start()
    said = manager.hear()
    while 'OTHER' in said:
        said = manager.hear(5)
    equal(said.get('READY'), '1', 'message')
    edge.terminate()


@test
def the_watchdog_of_another_process_is_not_ours(w):
    manager = Manager(w.lab, os.path.join(w.lab.dir, 'other'), WATCHDOG_USEC='200000', WATCHDOG_PID='1')
    edge = node(w, 'edge01')
    edge.start(wait=False)
    check('WATCHDOG' not in manager.hear(), 'it answers a watchdog')
    try:
        check(False, 'a message: %s' % manager.hear(0.7))
    except socket.timeout:
        pass
    edge.terminate()


def first_line(w, name, stream):
    w.lab.environment = lambda node: dict(JOURNAL_STREAM=stream)
    edge = node(w, name).start()
    edge.terminate()
    lines = [line for line in read_text(edge.process.log).splitlines() if ' ready ' in line]
    return lines[0]


@test
def lines_for_the_journal_have_priorities(w):
    path = os.path.join(w.lab.dir, 'edge02.out')
    open(path, 'w').close()
    there = os.stat(path)
    line = first_line(w, 'edge02', '%d:%d' % (there.st_dev, there.st_ino))
    check(re.match('<6>[0-9]{4}-', line), line)


@test
def lines_for_another_file_have_none(w):
    line = first_line(w, 'edge03', '1:2')
    check(re.match('[0-9]{4}-', line), line)


@test
def why_it_does_not_start_is_an_error_in_the_journal(w):
    path = os.path.join(w.lab.dir, 'edge04.out')
    open(path, 'w').close()
    there = os.stat(path)
    w.lab.environment = lambda node: dict(JOURNAL_STREAM='%d:%d' % (there.st_dev, there.st_ino))
    edge = node(w, 'edge04')
    edge.domains['corp.example'].chain = '/nowhere.pem'
    edge.start(wait=False)
    equal(edge.process.wait(15), 2, 'exit status')
    check(all(line.startswith('<3>') for line in read_text(path).splitlines()), read_text(path))


if __name__ == '__main__':
    begin(setup, 'dnsmasq')
