"""Attacks by the network, and by sockets of processes of this machine."""

from __future__ import annotations

from tests.sandbox.attacks.record import CALLS, Attack, Expected, confined, script

_NO_SOCKET = confined("forbidden")
_WORD = "\nprint(HOST['word'])"


def _socket(name: str, tries: str, program: str, expected: Expected = _NO_SOCKET, **more: object) -> Attack:
    return script(name, "network", tries, "import socket\n" + program, expected, **more)  # type: ignore[arg-type]


NETWORK = (
    _socket(
        "TCP",
        "connects to a server of this machine",
        "socket.create_connection(('127.0.0.1', HOST['tcp'])).sendall(b'x')",
    ),
    _socket(
        "UDP",
        "sends a datagram to a server of this machine",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', HOST['udp']))",
    ),
    _socket(
        "HTTP",
        "asks a server by urllib",
        "import urllib.request\n"
        "try: urllib.request.urlopen(f'http://127.0.0.1:{HOST[\"tcp\"]}/', timeout=0.2)\n"
        "except OSError as error: print(error)",
        confined("exited", "forbidden"),
    ),
    _socket(
        "asyncio",
        "connects by asyncio",
        "import asyncio\nasync def f():\n    await asyncio.open_connection('127.0.0.1', HOST['tcp'])\nasyncio.run(f())",
    ),
    _socket(
        "local socket",
        "connects to a socket in the file system",
        "client = socket.socket(socket.AF_UNIX)\nclient.connect(HOST['stream'])\nclient.sendall(b'x')",
    ),
    _socket(
        "local datagram",
        "sends a datagram to a socket in the file system",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', HOST['datagram'])",
    ),
    _socket(
        "datagram from a pair",
        "sends a datagram from a pair of connected sockets to another address",
        "one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\none.sendto(b'x', HOST['datagram'])",
    ),
    _socket(
        "datagram from a raw pair",
        "does that with another type, which the kernel takes for datagrams",
        "one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)\none.sendto(b'x', HOST['datagram'])",
    ),
    _socket(
        "packets from a pair",
        "sends from a pair of packet sockets to another address",
        "one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\none.sendto(b'x', HOST['datagram'])",
        confined("exited"),
        no_canary="the kernel ignores the address",
    ),
    _socket(
        "abstract socket",
        "connects to a socket without a file",
        "client = socket.socket(socket.AF_UNIX)\nclient.connect(HOST['abstract'])\nclient.sendall(b'x')",
    ),
    _socket(
        "server",
        "listens at a port",
        "server = socket.socket()\nserver.bind(('127.0.0.1', 0))\nserver.listen()" + _WORD,
    ),
    _socket(
        "netlink",
        "asks the kernel for its network",
        "netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\nnetlink.bind((0, 0))" + _WORD,
    ),
    _socket(
        "raw socket",
        "opens a raw socket",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)" + _WORD,
        by_root=True,
    ),
    _socket(
        "packet socket",
        "opens a socket for all packets",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)" + _WORD,
        by_root=True,
    ),
    _socket(
        "kernel cryptography",
        "opens a socket of the kernel's cryptography",
        "socket.socket(38, socket.SOCK_SEQPACKET)" + _WORD,
        perhaps="a kernel need not have it",
    ),
    _socket(
        "pair of another family",
        "makes a pair of sockets of another family",
        CALLS + "called(libc.socketpair(30, 1, 0, (ctypes.c_int * 2)()))" + _WORD,
        perhaps="a kernel need not have it",
    ),
    _socket(
        "interfaces",
        "lists the interfaces of the network",
        "if any(name != 'lo' for _, name in socket.if_nameindex()): print(HOST['word'])",
        perhaps="a machine need not have one",
    ),
    _socket(
        "network of the shell",
        "connects by the shell",
        "import subprocess\nsubprocess.run(['/bin/bash', '-c', f'echo x > /dev/tcp/127.0.0.1/{HOST[\"tcp\"]}'])",
    ),
)
