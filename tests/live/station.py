"""station.py -- a server of numbered stanzas, as a process of its own: it can be killed, stopped and made deaf.

    python3 station.py SETTINGS.json        commands as lines of JSON on its standard input

It plays the server of one domain with a Peer, and sends to other domains, each flow on a stream of its own
through whichever door is open.  What happens to a stanza is one line of a file, written at once, so that a
SIGKILL takes no line along:

    sent     TIME ID            it goes out now
    told     TIME ID            its sender knows that it may be lost: sending failed, or the stream died
    arrived  TIME ID
    back     TIME ID CONDITION  it was returned

With "counts" the station speaks XEP-0198 in both roles, as Prosody does between servers: what was not
acknowledged when a stream has ended is told to its sender, and is not sent again.
"""

import collections
import json
import os
import random
import sys
import threading
import time
sys.dont_write_bytecode = True

from xmpp import Closed, Peer, Stream, Timeout, error, local, message, space   # noqa: E402

NS_SM = 'urn:xmpp:sm:3'
ASK = 20            # stanzas after which the other side is asked what it has
now = time.monotonic


class Quiet:
    """A lab for a Peer that ends with its process."""
    closers = []


class Files:
    """A certificate, or an authority, by the names of its files."""

    def __init__(self, names):
        self.__dict__.update(names)


class CountingPeer(Peer):
    """A Peer that offers XEP-0198 on what it accepts, and enables it on what it dials."""

    counts = False
    resumes = False                     # and resumes what was lost, and lets it be resumed
    kept = {}                           # by its name, the stream that may be resumed

    def grant(self, stream):
        if not self.resumes:
            return ''
        name = 'r%d' % len(self.kept)
        self.kept[name] = stream
        return " resume='true' id='%s'" % name

    def go_on(self, stream, name):
        """What a lost stream has brought counts on this one, and nothing that it still brings."""
        lost = self.kept.get(name)
        if lost is None:
            stream.send("<failed xmlns='%s'/>" % NS_SM)
            return
        with lost.gate:
            lost.leaving = True
        stream.taken = lost.taken
        self.kept[name] = stream
        stream.send("<resumed xmlns='%s' previd='%s' h='%d'/>" % (NS_SM, name, stream.taken))

    def serve(self, stream):
        stream.taken = None             # stanzas handled, once that is counted
        stream.leaving = False
        stream.gate = threading.Lock()
        super().serve(stream)
        self.streams[:] = [s for s in self.streams if s is not stream]

    def feature_list(self, stream):
        sm = "<sm xmlns='%s'/>" % NS_SM if self.counts and stream.authenticated else ''
        return super().feature_list(stream) + sm

    def take(self, stream, element):
        if space(element) != NS_SM:
            return super().take(stream, element)
        if local(element) == 'enable':
            stream.taken = 0
            stream.send("<enabled xmlns='%s'%s/>" % (NS_SM, self.grant(stream)))
        elif local(element) == 'resume':
            self.go_on(stream, element.get('previd'))
        elif local(element) == 'r' and stream.taken is not None:
            stream.send("<a xmlns='%s' h='%d'/>" % (NS_SM, stream.taken))
        return True

    def keep(self, stream, stanza):
        if getattr(stream, 'taken', None) is None:
            return super().keep(stream, stanza)
        with stream.gate:               # what is not counted when it leaves is not taken either
            if not stream.leaving:
                stream.taken += 1
                super().keep(stream, stanza)

    def leave(self, stream):
        """A polite end, with a last word about what was handled (XEP-0198 4)."""
        if not hasattr(stream, 'gate'):
            return                      # nobody reads it yet
        with stream.gate:
            if self.counts and stream.taken is None:
                return                  # it is not in use yet
            stream.leaving = True
            last = "<a xmlns='%s' h='%d'/>" % (NS_SM, stream.taken) if self.counts else ''
            stream.send(last + '</stream:stream>')

    def take_dialled(self, stream, element):
        if space(element) != NS_SM:
            return super().take_dialled(stream, element)
        if local(element) == 'a':
            self.acknowledged(stream, int(element.get('h')))
        else:
            stream.answer = element
            stream.counted.set()
        return True

    def acknowledged(self, stream, h):
        with stream.lock:
            stream.asked = False
            while stream.acknowledged < h and stream.open:
                stream.acknowledged += 1
                stream.open.popleft()

    def ask(self, stream, text):
        """What the other side says to that; None: nothing."""
        stream.counted, stream.answer = threading.Event(), None
        stream.send(text)
        stream.counted.wait(10)
        return stream.answer

    def enable(self, stream):
        """From now on the other side says what it has handled."""
        stream.lock = threading.Lock()
        stream.acknowledged, stream.asked, stream.name = 0, False, None
        stream.open = collections.deque()       # identifiers and texts
        if self.counts:
            answer = self.ask(stream, "<enable xmlns='%s'%s/>" % (NS_SM, " resume='true'" if self.resumes else ''))
            stream.name = answer.get('id') if answer is not None and self.resumes else None

    def resume(self, stream, lost):
        """The same on from where another stream was lost; false: it does not go on."""
        answer = self.ask(stream, "<resume xmlns='%s' h='0' previd='%s'/>" % (NS_SM, lost.name))
        if answer is None or local(answer) != 'resumed':
            return False
        stream.lock, stream.asked, stream.name = threading.Lock(), False, lost.name
        stream.acknowledged, stream.open = lost.acknowledged, lost.open
        self.acknowledged(stream, int(answer.get('h')))
        stream.send(''.join(text for _, text in stream.open))
        return True


class Flow(threading.Thread):
    """Numbered messages from our domain to another, as long as there is a job."""

    def __init__(self, station, to, doors):
        super().__init__(daemon=True)
        self.station, self.to = station, to
        self.doors = [tuple(d) for d in doors]
        self.frm = station.domain
        self.stream, self.streams, self.number = None, int(now() * 1000) % 10 ** 8, 0
        self.lost = None            # a stream that may be resumed
        self.job = None
        self.tear = None            # how the stream is to end in the middle of the next stanza

    def run(self):
        while True:
            job = self.job
            if job is None or now() > job['until']:
                self.look()
                time.sleep(0.02)
            elif self.too_late(job) or self.enter():
                self.send(job)
                time.sleep(random.uniform(*job['pause']))

    # -- streams

    def look(self):
        """Whether there is a stream; one that has ended is left, and what it did not take is told."""
        if self.stream is not None and self.stream.ended:
            self.leave()
        return self.stream is not None

    def too_late(self, job):
        """Whether the next stanza sets out behind the other side's end tag, as it may before ours."""
        return job['late'] and self.stream is not None and self.stream.ended == 'close' and not self.stream.eof

    def enter(self):
        """Through the first door that opens, another one each time."""
        if self.look():
            return True
        lost, self.lost = self.lost, None
        if lost is None:
            self.doors.append(self.doors.pop(0))
        try:
            stream = self.station.peer.dial(self.doors[-1], self.to, frm=self.frm)
            if lost is None or not self.station.peer.resume(stream, lost):
                self.tell(lost)
                lost = None
                self.station.peer.enable(stream)
        except (OSError, AssertionError, Closed, Timeout):
            self.tell(lost)
            self.station.forget_halves()
            time.sleep(0.1)
            return False
        self.streams += 1
        self.stream = stream
        return True

    def tell(self, stream):
        """What is not acknowledged on a stream never will be."""
        if stream is not None and self.station.peer.counts:
            with stream.lock:
                for id, _ in stream.open:
                    self.station.record('told', id)

    def leave(self):
        """Answer an end tag; what is acknowledged until the connection ends counts."""
        stream, self.stream = self.stream, None
        if stream.ended == 'close':
            stream.answer_close()
            deadline = now() + 2
            while not stream.eof and now() < deadline and (stream.open or not self.station.peer.counts):
                time.sleep(0.02)
        stream.close(politely=False)
        if stream in self.station.peer.dialled:
            self.station.peer.dialled.remove(stream)
        if stream.name is not None and stream.ended != 'close':
            self.lost = stream
        else:
            self.tell(stream)

    # -- stanzas

    def stanza(self, job):
        id = '%s|%s>%s/%d#%d' % (job['epoch'], self.frm, self.to, self.streams, self.number)
        self.number += 1
        return id, message('a@' + self.frm, 'b@' + self.to, 'x' * job['size'], id=id)

    def send(self, job):
        if self.tear:
            return self.torn(job)
        stream, new = self.stream, []
        for _ in range(job['burst']):           # many in one write, as a group chat makes them
            id, one = self.stanza(job)
            self.station.record('sent', id)
            new.append((id, one))
        text = ''.join(one for _, one in new)
        with stream.lock:
            if self.station.peer.counts:
                stream.open.extend(new)
            if self.station.peer.counts and not stream.asked and len(stream.open) >= min(ASK, job['burst']):
                stream.asked = True
                text += "<r xmlns='%s'/>" % NS_SM
        try:
            stream.send(text)
        except (Closed, Timeout, OSError):
            stream.ended = stream.ended or 'reset'
            if not self.station.peer.counts:
                self.station.record('told', new[0][0])  # of a burst the first may be out already

    def torn(self, job):
        how, self.tear = self.tear, None
        _, text = self.stanza(job)              # nobody expects it: it was never whole
        try:
            self.stream.send(text[:len(text) // 2])
        except (Closed, Timeout, OSError):
            pass
        if how == 'reset':
            self.stream.abort()
        else:
            self.stream.close(politely=False)
        self.stream.ended = self.stream.ended or how


class Station:
    def __init__(self, settings):
        self.domain = settings['domain']
        self.file = os.open(settings['record'], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        certificate = settings.get('certificate')
        self.peer = CountingPeer(Quiet, [self.domain], tuple(settings['address']),
                                 cert=Files(certificate) if certificate else None,
                                 ca=Files(settings['authority']) if certificate else None,
                                 tls='required' if certificate else 'off')
        self.peer.counts = settings['counts']
        self.peer.on_stanza = self.take
        self.flows = [Flow(self, to, settings['doors']) for to in settings['to']]
        for flow in self.flows:
            flow.start()

    def record(self, what, *words):
        os.write(self.file, ('%s %.6f %s\n' % (what, now(), ' '.join(words))).encode())

    def take(self, stanza):
        id = stanza.get('id', '?')
        if stanza.get('type') == 'error':
            self.record('back', id, error(stanza).condition or '?')
        else:
            self.record('arrived', id)
        return True

    def forget_halves(self):
        for stream in [s for s in self.peer.dialled if s.reader is None]:
            stream.close(politely=False)
            self.peer.dialled.remove(stream)

    # -- commands

    def go(self, until, epoch, only=None, **job):
        for flow in self.flows:
            if not only or '%s>%s' % (flow.frm, flow.to) in only:
                flow.job = dict(job, until=until, epoch=epoch)

    def resume(self, yes):
        """Streams that begin from now on may be resumed."""
        self.peer.resumes = yes

    def reset(self):
        """What comes in is reset, in the middle of whatever comes."""
        for stream in list(self.peer.streams):
            stream.abort()

    def finish(self):
        """The same with FIN, and without an end tag."""
        for stream in list(self.peer.streams):
            stream.closed_by_us = True
            try:
                stream.sock.shutdown(2)
            except OSError:
                pass                        # it has ended already

    def close(self):
        """A polite end of what comes in."""
        for stream in list(self.peer.streams):
            try:
                self.peer.leave(stream)
            except (Closed, Timeout, OSError, ValueError):
                pass                        # it has ended already

    def tear(self, how):
        """What goes out ends in the middle of a stanza."""
        for flow in self.flows:
            flow.tear = how

    def serve(self):
        print('ready', flush=True)
        for line in sys.stdin:
            words = json.loads(line)
            getattr(self, words.pop('command'))(**words)


if __name__ == '__main__':
    with open(sys.argv[1]) as f:
        Station(json.load(f)).serve()
