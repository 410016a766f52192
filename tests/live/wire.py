"""wire.py -- networks that fail: a forwarder that can be cut or frozen, a port that never answers."""

import select
import socket
import threading


class Forwarder:
    """TCP from an address to another.  cut() ends every connection, freeze() stops passing bytes on."""

    def __init__(self, lab, listen, target):
        self.target = target
        self.pairs = []
        self.bytes = 0          # passed on so far, both ways
        self.frozen = False
        self.refusing = False
        self.stopping = False
        self.lock = threading.Lock()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(listen)
        self.listener.listen(16)
        self.address = self.listener.getsockname()
        lab.closers.append(self.stop)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.stopping:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.refusing:
                    raise OSError('refused')
                far = socket.create_connection(self.target, 5)
            except OSError:
                reset(near)
                continue
            with self.lock:
                self.pairs.append((near, far))
            threading.Thread(target=self.pass_on, args=(near, far), daemon=True).start()

    def pass_on(self, near, far):
        other = {near: far, far: near}
        try:
            while not self.stopping:
                for ready in select.select([near, far], [], [], 0.2)[0]:
                    if self.frozen:
                        threading.Event().wait(0.05)
                        continue
                    data = ready.recv(65536)
                    if not data:
                        return
                    other[ready].sendall(data)
                    self.bytes += len(data)
        except (OSError, ValueError):
            pass
        finally:
            for s in (near, far):
                reset(s)
            with self.lock:
                self.pairs = [p for p in self.pairs if p[0] is not near]

    def cut(self, end=None):
        """Break what is connected now; new connections are accepted.  end: instead of a reset."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for near, far in pairs:
            (end or reset)(near)
            (end or reset)(far)
        return len(pairs)

    def freeze(self, frozen=True):
        self.frozen = frozen

    def stop(self):
        self.stopping = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.cut()


def reset(sock):
    """Close with a TCP reset, so that the other side learns of it at once and nothing is flushed."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    try:
        sock.close()
    except OSError:
        pass


def finish(sock):
    """Close as a process that ends does: what was sent is delivered, and FIN follows."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Said:
    """A port on which everybody is told the same bytes, and then left alone."""

    def __init__(self, lab, address, words):
        self.listener = socket.create_server(address)
        self.words = words
        self.told = []
        lab.closers.append(self.stop)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
                s.sendall(self.words)
            except OSError:
                return
            self.told.append(s)

    def stop(self):
        self.listener.close()
        for s in self.told:
            s.close()


class DeafPort:
    """A port on which a connection neither succeeds nor fails: its queue is full for ever."""

    def __init__(self, lab, address):
        self.listener = socket.socket()
        self.listener.bind(address)
        self.listener.listen(0)
        self.fillers = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(address)
            self.fillers.append(s)
        lab.closers.append(self.stop)

    def stop(self):
        for s in self.fillers + [self.listener]:
            s.close()
