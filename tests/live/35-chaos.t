#!/usr/bin/env python3
"""35-chaos.t -- whatever happens to a node, each stanza arrives, or its sender is told.

Numbered stanzas between two partners and two inner servers through two edges and two gateways, in all eight
directions at once, while nodes die, end, hang, or lack what they need, and trunks break: see chaos.py.  One
partner speaks XEP-0198, the other servers do not; what dies with a node that nobody else had is counted.

Each row once and briefly; TIMES=5 runs each five times, and as long as the fault would really last.
"""
import ctypes
import os
import resource
import signal
import socket
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from chaos import (EDGE, GATEWAY, INNER, PARTNERS, TIMES, Rig, again, frozen, lasting, main,    # noqa: E402
                   row, sentence)
from edge import shift_clock, shifted_clock                               # noqa: E402
from lab import Lab                                                    # noqa: E402
from tap import Skip, check, equal                                        # noqa: E402
from wire import finish                                                   # noqa: E402

EVERYBODY = PARTNERS + INNER
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


def small_disk(folder):
    """A file system of one megabyte that only this test and its children see; whether there is one."""
    libc = ctypes.CDLL(None)
    return (libc.unshare(CLONE_NEWNS) == 0
            and libc.mount(b'none', b'/', None, MS_REC | MS_PRIVATE, None) == 0
            and libc.mount(b'none', folder.encode(), b'tmpfs', 0, b'size=1m') == 0)


def make():
    lab = Lab()
    disk = lab.folder('disk')
    has_disk = small_disk(disk)
    clock = shifted_clock(lab)
    if has_disk:
        os.symlink(os.path.join(disk, 'edge01.out'), os.path.join(lab.dir, 'edge01.out'))
    rig = Rig(lab)
    rig.disk, rig.clock = disk if has_disk else None, clock
    return rig


@row('undisturbed everything arrives once and in order')
def nothing(rig):
    pass


@row('undisturbed bursts arrive once and in order', burst=40, pause=(0.5, 0.5))
def bursts(rig):
    pass


# ---- a node dies, ends or hangs ----------------------------------------------------------------

def terminated(node):
    equal(node.terminate(), 0, 'status of ' + node.name)


@row('nothing that somebody keeps is lost when an edge is killed', dead=['edge'])
def kill_edge(rig):
    again([rig.busiest().ends[EDGE]])


@row('nothing that somebody keeps is lost when a gateway is killed', dead=['gateway'])
def kill_gateway(rig):
    again([rig.busiest().ends[GATEWAY]])


@row('nothing is lost when an edge is stopped')
def stop_edge(rig):
    again([rig.busiest().ends[EDGE]], terminated)


@row('nothing is lost when a gateway is stopped among bursts', burst=40, pause=(0.5, 0.5))
def stop_gateway(rig):
    again([rig.busiest(0.6).ends[GATEWAY]], terminated)


@row('nothing that somebody keeps is lost when both edges die', dict(back=TIMES > 1), dead=['edge'])
def both_edges(rig):
    again(rig.edges, pause=lasting(1, 14))


@row('nothing that somebody keeps is lost when both gateways die', dict(back=TIMES > 1), dead=['gateway'])
def both_gateways(rig):
    again(rig.gateways, pause=lasting(1, 14))


@row('nothing is lost when an edge stands still')
def freeze_edge(rig):
    frozen(rig.busiest().ends[EDGE].process, lasting(1, 5))


@row('nothing is lost when a gateway stands still')
def freeze_gateway(rig):
    frozen(rig.busiest().ends[GATEWAY].process, lasting(1, 5))


if TIMES > 1:
    @row('nothing is lost when an edge stands still for a minute', pause=(0.1, 0.1))
    def freeze_edge_long(rig):
        frozen(rig.busiest().ends[EDGE].process, 60)

    @row('nothing is lost when a gateway stands still for a minute', pause=(0.1, 0.1))
    def freeze_gateway_long(rig):
        frozen(rig.busiest().ends[GATEWAY].process, 60)


def dead_beside_deaf(text, nodes_of, server, dead, flows):
    """What waits for a server that is deaf is in the nodes at both ends, and those that it is nearest to die."""
    @row(text, dict(back=True), dead=dead, only=flows, size=8000, pause=(0.01, 0.01))
    def event(rig):
        rig.stations[server].signal(signal.SIGSTOP)
        time.sleep(lasting(6, 12))
        again(nodes_of(rig))
        rig.stations[server].signal(signal.SIGCONT)


dead_beside_deaf('nothing that somebody keeps is lost when both edges die beside a deaf partner',
                 lambda rig: rig.edges, 'pa.example', ['edge'], ['in1.example>pa.example', 'in2.example>pa.example'])
dead_beside_deaf('nothing that somebody keeps is lost when both gateways die beside a deaf inner server',
                 lambda rig: rig.gateways, 'in1.example', ['gateway'],
                 ['pa.example>in1.example', 'pb.example>in1.example'])


# ---- the trunk ---------------------------------------------------------------------------------
# By its numbers the node at the other end knows what it has.  From one that stands still for long, stanzas go by
# another one that does not: they may arrive twice.

@row('nothing is lost when a trunk is reset')
def cut(rig):
    rig.busiest().cut()


@row('nothing is lost when all trunks end three times')
def cut_all(rig):
    for _ in range(3):
        for path in rig.paths:
            path.cut(finish)
        time.sleep(0.3)


@row('nothing is lost when a trunk stands still', dict(twice=True))
def freeze_trunk(rig):
    path = rig.busiest()
    path.freeze()
    time.sleep(lasting(1, 60))
    path.freeze(False)


# ---- the machine -------------------------------------------------------------------------------

def everybody_leaves(rig, times):
    """So that nodes dial, accept, and have something to log."""
    for _ in range(times):
        for station in rig.stations.values():
            station.tell('close')
        time.sleep(0.4)


@row('nothing is lost while all nodes read their configuration ten times a second')
def reload(rig):
    for _ in range(lasting(15, 300)):
        for node in rig.nodes:
            node.reload()
        time.sleep(0.1)


def says(node, level):
    node.level = level
    node.write()
    node.reload()


def descriptors(pid):
    return {int(n) for n in os.listdir('/proc/%d/fd' % pid)}


def no_descriptors(rig, node):
    taken = descriptors(node.process.pid)
    soft, hard = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
    lowest = min(n for n in range(len(taken) + 1) if n not in taken)
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (lowest, hard))
    everybody_leaves(rig, lasting(2, 10))
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (soft, hard))


@row('nothing is lost while an edge has no file descriptor left', unsure=EVERYBODY)
def no_descriptors_on_an_edge(rig):
    no_descriptors(rig, rig.edges[0])


@row('nothing is lost while a gateway has no file descriptor left', unsure=EVERYBODY)
def no_descriptors_on_a_gateway(rig):
    no_descriptors(rig, rig.gateways[0])


@sentence('nothing is lost while the log cannot be written, and its lost lines are counted')
def disk_full(rig):
    if not rig.disk:
        raise Skip('no file system of its own here')
    edge, filler = rig.edges[0], os.path.join(rig.disk, 'filler')

    def event():
        os.truncate(edge.process.log, 0)    # what it says in a long run fills the disk by itself
        edge.forget_log()
        with open(filler, 'wb', buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass
        says(edge, 'debug')
        everybody_leaves(rig, 2)
        for _ in range(50):             # strangers, so that it has something to say
            socket.create_connection(edge.external).close()
        time.sleep(0.2)
        os.unlink(filler)
        says(edge, 'info')
    rig.row(event, unsure=EVERYBODY).judge()
    check(int(edge.wait_log('log-lost').fields['lines']) > 0, 'no line was lost')


@sentence('nothing is lost when the clock leaps a day ahead, and back')
def clock(rig):
    if not rig.clock:
        raise Skip('no clock of its own here')

    def event():
        shift_clock(rig.clock, 86400)
        everybody_leaves(rig, 1)
        shift_clock(rig.clock, 0)
        everybody_leaves(rig, 1)
    rig.row(event, unsure=EVERYBODY).judge()
    days = [line.text[:10] for line in rig.edges[0].lines() + rig.edges[1].lines()]
    check(len(set(days)) == 2, 'days in the log: %s' % set(days))


@sentence('the nodes end in order')
def ends(rig):
    trouble = rig.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    main(make)
