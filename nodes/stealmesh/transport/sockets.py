"""How each kind of ZeroMQ socket is set up, and why each option is what it is.

Does: contexts, options, monitors, binding. Decides nothing; knows no link and no message.

A dialled socket is for one connection. Its messages are held back until the handshake succeeded,
and it is closed when the connection ends, so a new process on a dead one's port never receives its
mail. libzmq's own fail-fast pair (IMMEDIATE=1, RECONNECT_IVL=-1) is not used although it promises
the same: at the end of a connection it also throws away what was received and not yet read.
ZMTP heartbeats stay off: they turn a slow reader into lost messages.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import resource
import secrets
import socket as sockets
import stat
import struct
import threading
from typing import NamedTuple

import zmq
import zmq.utils.garbage  # now, for what it registers with `atexit`: see _start_sharing

from stealmesh.host.machine import UNLIMITED, address_space_left, soft_limit
from stealmesh.transport.keys import CurveWay, Keys
from stealmesh_protocol.errors import MeshError
from stealmesh_protocol.limits import COUNTED_OCTETS_MIN, FRAME_OCTETS_MAX, TAKEN_OCTETS

DONT_WAIT = int(zmq.DONTWAIT)
MORE_DONT_WAIT = int(zmq.SNDMORE) | DONT_WAIT
EVENTS = int(zmq.EVENTS)
READABLE = int(zmq.POLLIN)
SOURCE_FD = int(zmq.SRCFD)
MECHANISM_MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)

HANDSHAKE_SECONDS = 5.0
CONNECT_SECONDS = 3.0
NEVER_MILLISECONDS = 24 * 3600 * 1000
"""Until libzmq's second attempt; we close the socket as soon as the first one is over."""
IPC_PATH_OCTETS_MAX = 107
UNREAD_MESSAGES_MAX = 2 * TAKEN_OCTETS // COUNTED_OCTETS_MIN
"""The receive queue of one connection. When it is full libzmq leaves the rest to the kernel, and throws
it away if an ipc connection ends then. So the queue has room for all that may be unread when a peer
hangs up (flow.py), times two, because libzmq notices only half a queue later what was read."""
DOMAIN = b"stealmesh"
START_DESCRIPTORS = 40
START_THREADS = 8
"""libzmq's two, the three of _start_sharing, and those of ours that start right after them."""
THREADS_REMEDY = "raise the limit of processes with `ulimit -u`, or start fewer workers"
MEMORY_REMEDY = "raise the limit of memory with `ulimit -v`"
FILES_REMEDY = "raise the limit of open files with `ulimit -n`"

_DIALLED_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
# Not ACCEPT_FAILED: out of descriptors, libzmq tries again and again, a million events a second.
_INBOX_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_monitor_numbers = itertools.count()


class TransportError(MeshError):
    """The transport cannot do what it was asked to; the text ends with the remedy."""


class MonitorEvent(NamedTuple):
    kind: int
    value: int


def zmq_versions() -> tuple[str, str]:
    """The versions of pyzmq and of libzmq, for `stealmesh doctor`."""
    return zmq.pyzmq_version(), zmq.zmq_version()


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    if not zmq.has("curve"):
        raise TransportError("this libzmq has no CURVE encryption: install pyzmq from a wheel")
    _require_descriptors()
    _require_threads()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, 4096)  # a link takes two (socket and monitor); default 1023
    # The first socket starts libzmq's threads. Here, where there is room, and not at some later
    # dial: short of descriptors they would abort the process.
    context.socket(zmq.PAIR).close(0)
    _start_sharing()
    return context


def _start_sharing() -> None:
    """Start pyzmq's thread that learns when libzmq is done with a large frame. pyzmq starts it at the
    first such frame; while a program ends that is too late, as Python 3.12 and later start no thread
    then. pyzmq registers its end with `atexit` when its module is imported. That has to be before ours:
    the last one registered runs first, and we still send what was submitted."""
    zmq.Frame(b" ", copy=False)


def _require_descriptors() -> None:
    spare: list[int] = []
    try:
        spare.extend(os.eventfd(0) for _ in range(START_DESCRIPTORS))
    except OSError as error:
        raise TransportError(f"cannot start ({error.strerror}): {FILES_REMEDY}") from None
    finally:
        for descriptor in spare:
            os.close(descriptor)


def _require_threads() -> None:
    """Try whether threads can be started: libzmq ends the process when it cannot start one."""
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(START_THREADS):
            thread = threading.Thread(target=done.wait, name="stealmesh-try", daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        if "shutdown" in str(error):  # the program is about to end: no limit would help
            raise
        raise TransportError(f"cannot start ({error}): {_threads_remedy()}") from None
    finally:
        done.set()
        for thread in started:
            thread.join()


def _threads_remedy() -> str:
    """Of each thread the stack must fit into the address space."""
    left = address_space_left()
    is_short = left < UNLIMITED and left < START_THREADS * soft_limit(resource.RLIMIT_STACK)
    return MEMORY_REMEDY if is_short else THREADS_REMEDY


def fd_of(socket: zmq.Socket[bytes]) -> int:
    return int(socket.getsockopt(zmq.FD))


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; a link takes four descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


# ---------------------------------------------------------------- inbox and link sockets


def new_inbox(context: zmq.Context[zmq.Socket[bytes]], keys: Keys | None) -> zmq.Socket[bytes]:
    """The ROUTER that accepts connections; the caller binds it after its monitor is open."""
    _draw_automatic_ids_by_lot()
    inbox = context.socket(zmq.ROUTER)
    _set_common(inbox)
    inbox.setsockopt(zmq.ROUTER_MANDATORY, 1)  # without: to a gone peer = silently dropped
    inbox.setsockopt(zmq.ROUTER_HANDOVER, 1)  # without: a peer behind a dead path stays locked out
    inbox.setsockopt(zmq.BACKLOG, 1024)
    if keys is not None:
        inbox.setsockopt(zmq.CURVE_SERVER, 1)
        inbox.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret)
        # Both are needed: without ENFORCE a missing ZAP handler lets all clients in.
        inbox.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        inbox.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return inbox


def _draw_automatic_ids_by_lot() -> None:
    """A ROUTER numbers callers without an id, and those that it parts with, from rand() on. libzmq does not
    seed that, so the numbers were the same in each process; and it ends the process when the number that
    comes next is taken. So any holder of the key could end any node."""
    ctypes.CDLL(None).srand(secrets.randbits(32))


def new_dialer(
    context: zmq.Context[zmq.Socket[bytes]], way: CurveWay | None, endpoint: str
) -> zmq.Socket[bytes]:
    """A DEALER for one connection, once. The caller connects it after its monitor is open."""
    dialer = context.socket(zmq.DEALER)
    _set_common(dialer)
    dialer.setsockopt(zmq.RECONNECT_IVL, NEVER_MILLISECONDS)
    dialer.setsockopt(zmq.CONNECT_TIMEOUT, int(CONNECT_SECONDS * 1000))
    # Never an automatic id: a peer that claims the next one aborts the process behind the inbox.
    dialer.setsockopt(zmq.ROUTING_ID, b"\x01" + secrets.token_bytes(16))
    dialer.setsockopt(zmq.IPV6, int(not endpoint.startswith("tcp://") or "[" in endpoint))
    if way is not None:
        dialer.setsockopt(zmq.CURVE_SERVERKEY, way.server)
        dialer.setsockopt(zmq.CURVE_PUBLICKEY, way.public)
        dialer.setsockopt(zmq.CURVE_SECRETKEY, way.secret)
    return dialer


def _set_common(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDTIMEO, 0)
    socket.setsockopt(zmq.SNDHWM, 64)  # small: what waits here is lost with the connection
    socket.setsockopt(zmq.RCVHWM, UNREAD_MESSAGES_MAX)
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_SECONDS * 1000))
    socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_OCTETS_MAX)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 20)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    socket.setsockopt(zmq.TCP_MAXRT, 20_000)


# ---------------------------------------------------------------- monitors


def open_monitor(socket: zmq.Socket[bytes], *, inbox: bool) -> zmq.Socket[bytes]:
    """A PAIR that tells what happens to the socket's connections."""
    address = f"inproc://monitor-{next(_monitor_numbers)}"
    monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.LINGER, 0)
    # No limit: at a full monitor pipe libzmq's I/O thread would block, and with it all links.
    monitor.setsockopt(zmq.RCVHWM, 0)
    try:
        socket.monitor(address, _INBOX_EVENTS if inbox else _DIALLED_EVENTS)
        monitor.connect(address)
    except zmq.ZMQError:  # out of descriptors
        socket.monitor(None, 0)
        monitor.close()
        raise
    # Nothing is there yet, and libzmq signals only to a reader that has found it empty once.
    monitor.getsockopt(EVENTS)
    return monitor


def read_monitor(monitor: zmq.Socket[bytes]) -> MonitorEvent | None:
    """The next event, None when there is none at the moment."""
    try:
        kind_and_value = monitor.recv(DONT_WAIT)
    except zmq.Again:
        return None
    monitor.recv(DONT_WAIT)  # the endpoint: each of our monitors watches one socket only
    return MonitorEvent(*struct.unpack("=Hi", kind_and_value))


def close_monitored(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes], linger: int) -> None:
    """In this order: libzmq must not block on an event that has no reader."""
    socket.monitor(None, 0)
    monitor.close()
    socket.close(linger)


# ---------------------------------------------------------------- binding


def bind(inbox: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind, and return the address (with the real port in place of 0). Raises TransportError."""
    if endpoint.startswith("ipc://"):
        _clear_ipc_path(endpoint)
    everywhere = endpoint.startswith("tcp://*")
    try:
        inbox.setsockopt(zmq.IPV6, int("[" in endpoint or everywhere))
        try:
            inbox.bind(endpoint)
        except zmq.ZMQError as error:
            if not everywhere or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            inbox.setsockopt(zmq.IPV6, 0)  # a host without IPv6
            inbox.bind(endpoint)
    except zmq.ZMQError as error:
        remedy = _BIND_REMEDIES.get(error.errno or 0, "use tcp://address:port or ipc:///path")
        raise TransportError(f"cannot listen at {endpoint} ({error}): {remedy}") from None
    return str(inbox.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())  # type: ignore[union-attr]


_BIND_REMEDIES = {
    errno.EADDRINUSE: "another process has it; choose another port, or 0 for any",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.ENODEV: "this machine has no such address",
    errno.EACCES: "not allowed; choose a port above 1023 or a directory of yours",
    errno.ENOENT: "the directory does not exist; make it first",
}


def _clear_ipc_path(endpoint: str) -> None:
    """Remove what a dead process left behind. libzmq would remove anything, even a live inbox."""
    path = endpoint.removeprefix("ipc://")
    if len(os.fsencode(path)) > IPC_PATH_OCTETS_MAX:
        raise TransportError(
            f"cannot listen at {endpoint} (longer than {IPC_PATH_OCTETS_MAX} octets): "
            "choose a shorter directory, e.g. with TMPDIR"
        )
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # nothing there; bind says what is wrong, if anything is
    if not stat.S_ISSOCK(mode):
        raise TransportError(f"cannot listen at {endpoint} (a file is there): choose another path")
    with sockets.socket(sockets.AF_UNIX) as caller:
        caller.setblocking(False)
        if caller.connect_ex(path) in (0, errno.EAGAIN):
            raise TransportError(f"cannot listen at {endpoint} (in use): choose another path")
    os.unlink(path)
