#!/usr/bin/env python3
"""35-chaos-servers.t -- whatever servers, networks and names do, each stanza arrives, or its sender is told.

The same as 35-chaos.t, while it is the others that break: a server resets, breaks off, leaves, is deaf, dies or
vanishes, and its names cannot be looked up.  What such a server had accepted when it died is lost unless it
speaks XEP-0198; it is counted.
"""
import os
import signal
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from chaos import TIMES, again, frozen, hole, lasting, main, row, sentence     # noqa: E402
from tap import check, note                                               # noqa: E402

LEAVING = ['pb.example', 'in1.example']         # who count nothing, and take leave
IDLE = 1                                        # seconds


def told(rig, domain, command, times=3, pause=0.2, **words):
    for _ in range(times):
        rig.stations[domain].tell(command, **words)
        time.sleep(pause)


# ---- servers -----------------------------------------------------------------------------------

# a reset overtakes the acknowledgement of TCP: what was read just before comes back, and is not sent again
@row('nothing is lost or doubled when a partner that counts resets what it receives', dict(back=True),
     pause=(0.001, 0.004))
def reset_counting(rig):
    told(rig, 'pa.example', 'reset', 20, pause=0.07)


@sentence('nothing comes back, and nothing is sent again, when what a partner may resume is reset on both sides')
def reset_resumed(rig):
    partner, pace = rig.stations['pa.example'], (0.001, 0.004)
    rig.put_back()
    partner.tell('resume', yes=True)
    rig.row(lambda: (partner.tell('close'), partner.tell('tear', how='reset'))).judge(back=True)

    def resets():
        for _ in range(10):
            told(rig, 'pa.example', 'reset', 1, pause=0.07)
            told(rig, 'pa.example', 'tear', 1, pause=0.07, how='reset')
    for _ in range(TIMES):
        account = rig.row(resets, pause=pace)
        account.judge()
        check(not account.told, '%d were told by their server' % len(account.told))
    # the log has room for some of these lines, at its level
    asked = [line for edge in rig.edges for line in edge.find_log('s2s-resumed')
             + edge.find_log('undelivered', resuming='[1-9].*')]
    check(asked, 'nobody was asked what he has')
    note('%d lines tell of what was resumed, or would be' % len(asked))
    partner.tell('resume', yes=False)


@row('what others reset is all that is lost', dict(back=True), dead=['pb.example', 'in1.example'])
def reset(rig):
    told(rig, 'pb.example', 'reset', 8, pause=0.07)
    told(rig, 'in1.example', 'reset', 8, pause=0.07)


@row('what servers drop that end connections without a word is all that is lost', dict(back=True),
     dead=['pb.example', 'in1.example'])
def drop(rig):
    for domain in 'pa.example', 'pb.example', 'in1.example':
        told(rig, domain, 'finish', 4, pause=0.07)


@row('nothing is lost of others when servers break off in the middle of a stanza')
def tear(rig):
    for how in 'reset', 'eof':
        for domain in 'pa.example', 'pb.example', 'in1.example':
            told(rig, domain, 'tear', 1, how=how)


@row('nothing is lost when servers end streams politely, over and over', unsure=LEAVING)
def polite(rig):
    for _ in range(4):
        for domain in 'pa.example', 'pb.example', 'in1.example':
            told(rig, domain, 'close', 1)


@row('nothing is lost when a partner that counts hangs, dies and comes again', dict(back=True),
     dead=['pa.example'])
def hang_counting(rig):
    frozen(rig.stations['pa.example'], lasting(0.5, 5), end=False)
    again([rig.stations['pa.example']])


@row('what a partner had that hung and died is all that is lost', dict(back=True), dead=['pb.example'])
def hang_partner(rig):
    frozen(rig.stations['pb.example'], lasting(0.5, 5), end=False)
    again([rig.stations['pb.example']])


@row('what an inner server had that died is all that is lost, and nothing comes back', dead=['in1.example'])
def kill_inner(rig):
    again([rig.stations['in1.example']], pause=lasting(1, 3))


@row('nothing is lost when an inner server is deaf for a while', size=4000)
def deaf_inner(rig):
    frozen(rig.stations['in1.example'], lasting(1, 30))


@row('nothing is lost when a partner is deaf for a while', size=4000)
def deaf_partner(rig):
    frozen(rig.stations['pa.example'], lasting(1, 30))


# ---- the network -------------------------------------------------------------------------------

def black_hole(domain, seconds, reboot):
    @row('nothing is lost when %s is unreachable for %g seconds%s'
         % (domain, seconds, ', and comes again without its connections' if reboot else ''),
         dict(back=seconds > 5), dead=[domain] if reboot else [])
    def event(rig):
        hole([rig.stations[domain].address[0]], domain)
        time.sleep(seconds)
        if reboot:
            rig.stations[domain].kill()
        hole([], domain)
        if reboot:
            rig.stations[domain].start()


# everybody with and without a reboot, but not for 90 seconds: that is a matter of TCP alone
for duration, domain, reboot in lasting(
        [(1, 'pa.example', False), (1, 'pb.example', True)],
        [(n, d, reboot) for n in (10, 20) for d in ('pa.example', 'pb.example', 'in1.example')
         for reboot in (False, True)] + [(90, 'pa.example', False), (90, 'pb.example', True)]):
    black_hole(domain, duration, reboot)


@row('nothing is lost when no name can be looked up', dict(back=TIMES > 1), unsure=LEAVING)
def names(rig):
    rig.outside.process.signal(signal.SIGSTOP)
    told(rig, 'pa.example', 'close', 1)
    told(rig, 'pb.example', 'close', 1)
    time.sleep(lasting(1, 12))
    rig.outside.process.signal(signal.SIGCONT)


if TIMES > 1:
    @row('nothing is lost when the name server is dead for a while', dict(back=True), unsure=LEAVING)
    def dead_names(rig):
        rig.outside.process.kill()
        told(rig, 'pa.example', 'close', 1)
        told(rig, 'pb.example', 'close', 1)
        time.sleep(12)
        rig.outside.restart()


# ---- idle streams ------------------------------------------------------------------------------

@sentence('nothing is lost when streams are ended as idle and stanzas set out just then')
def idle(rig):
    """From 0.97 to 1.03 times the limit, and behind the end tag that a server has seen (RFC 6120 4.4)."""
    for node in rig.nodes:
        node.limits.update({'inactivity-time': '%ds' % IDLE, 'keepalive-interval': '%ds' % IDLE})
        node.terminate()
    for late in False, True:
        for _ in range(TIMES):
            account = rig.row(lambda: time.sleep(lasting(3, 30)), after=IDLE, late=late,
                              pause=(0.97 * IDLE, 1.03 * IDLE))
            account.judge()
    ended = [line for node in rig.nodes for line in node.find_log('s2s-in-closed', why='idle')]
    check(len(ended) > 4, 'only %d streams were ended as idle' % len(ended))


@sentence('the nodes end in order')
def ends(rig):
    trouble = rig.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    main()
