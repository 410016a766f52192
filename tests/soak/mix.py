#!/usr/bin/env python3
"""mix.py MINUTES -- faults at random, one after another, on nodes that live long.

The faults are those of tests/live/35-chaos.t and 35-chaos-servers.t.  Nodes seldom die, and not at all in the
last quarter of the time.  Each stanza is accounted for after each fault.  In the end, when all servers have
gone, each node must have the descriptors of its first minute, and not much more memory.

The machine may be busy with other things.  When nothing is lost, but something comes back or arrives twice while
nodes or servers wait for a processor for longer than BUSY, that is counted, and no failure.

SEED in the environment chooses the order.
"""
import functools
import importlib.machinery
import importlib.util
import os
import random
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
LIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'live')
sys.path.insert(0, LIVE)

import tap                                                                # noqa: E402
from chaos import Untimely                                                # noqa: E402
from edge import slowness                                                 # noqa: E402
from lab import wait_until                                                # noqa: E402

DEADLY = ('edge is killed', 'gateway is killed', 'edge is stopped', 'gateway is stopped', 'edges die', 'gateways die')
ONCE = ('nodes end in order', 'ended as idle')      # ends all, or changes the settings of all
BUSY = 1                                    # seconds for which nobody waits for a processor on a quiet machine
QUIET = 130                                 # seconds of a node or server that gets no processor, and of its back-off
SPARE = 6 << 20                             # bytes that a node may have more in the end


def load(name):
    """A test file as a module: its tests are then in tap.tests."""
    loader = importlib.machinery.SourceFileLoader(name.replace('-', '_'), os.path.join(LIVE, name + '.t'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def memory(node):
    with open('/proc/%d/statm' % node.process.pid) as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def descriptors(node):
    return len(os.listdir('/proc/%d/fd' % node.process.pid))


def waits(pid):
    """Seconds for which the threads of a process could have run, and did not."""
    total = 0
    for task in os.listdir('/proc/%d/task' % pid):
        try:
            with open('/proc/%d/task/%s/schedstat' % (pid, task)) as f:
                total += int(f.read().split()[1])
        except OSError:
            pass                            # it has ended meanwhile
    return total / 1e9


class Machine:
    """Who waits for a processor, and what came of that."""

    def __init__(self, rig):
        self.rig, self.before, self.late = rig, {}, 0

    def look(self):
        """The longest wait of a node or server since the last look."""
        pids = [n.process.pid for n in self.rig.nodes if n.running()]
        pids += [s.popen.pid for s in self.rig.stations.values() if s.running()]
        now = {pid: waits(pid) for pid in pids}
        longest = max([now[pid] - self.before.get(pid, 0) for pid in pids] or [0])
        self.before = now
        return longest

    def bears(self, fault):
        """The fault as a test that does not fail for what is late with the machine."""
        @functools.wraps(fault)
        def function(rig):
            self.look()
            try:
                fault(rig)
            except Untimely as e:
                waited = self.look()
                if waited < BUSY:
                    raise
                self.late += 1
                tap.note('%s; somebody has waited %.1f s for a processor' % (e, waited))
        return function


class Levels:
    """Memory and descriptors of each process when it was young."""

    def __init__(self, rig):
        self.rig = rig
        self.bare = max(descriptors(n) for n in rig.nodes)
        self.memory = {}                    # pid -> bytes

    def look(self):
        for node in self.rig.nodes:
            if node.running():
                self.memory.setdefault(node.process.pid, memory(node))

    def settled(self):
        """When nobody is connected any more."""
        for station in self.rig.stations.values():
            station.kill()
        wait_until(lambda: all(descriptors(n) <= self.bare for n in self.rig.nodes), 90, 'descriptors to be closed')
        time.sleep(1)
        for node in self.rig.nodes:
            young, old = self.memory[node.process.pid], memory(node)
            print('%s: %d descriptors, %.1f MB, %.1f MB when it was young'
                  % (node.name, descriptors(node), old / 1e6, young / 1e6), flush=True)
            if slowness() == 1:             # a sanitizer keeps what is freed
                tap.check(old <= young + SPARE, '%s has grown by %d bytes' % (node.name, old - young))


def main(minutes):
    chaos = load('35-chaos')
    load('35-chaos-servers')
    faults = [t for t in tap.tests if not any(w in t.sentence for w in ONCE)]
    mild = [t for t in faults if not any(w in t.sentence for w in DEADLY)]
    seed = os.environ.get('SEED', str(os.getpid()))
    choice = random.Random(seed)
    print('soak: %d minutes, SEED=%s' % (minutes, seed), flush=True)
    rig = chaos.make()
    rig.quiet = QUIET
    levels, machine = Levels(rig), Machine(rig)
    begin, count, bad = time.monotonic(), 0, 0
    while time.monotonic() < begin + minutes * 60:
        late = time.monotonic() > begin + minutes * 45
        count += 1
        fault = choice.choice(mild if late or choice.random() > 0.1 else faults)
        bad += not tap.run_one(count, machine.bears(fault), rig, rig.lab)
        levels.look()
        if bad:
            break
    if not bad:
        levels.settled()
        trouble = rig.border.stop()
        tap.check(not trouble, '\n'.join(trouble))
    rig.lab.close()
    print('soak: %d faults, %d of them with a loss, %d late with the machine' % (count, bad, machine.late), flush=True)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30))
