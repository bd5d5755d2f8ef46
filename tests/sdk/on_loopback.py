"""Runs a Python program's module so that it listens on 127.0.0.1 only, and ends with the story that started it.

    on_loopback.py MODULE [ARGUMENTS ...]

Some servers made for development listen on every interface and offer no choice. This changes where sockets of
the process are bound, prints each port on a line of its own, and leaves when standard input is closed.
"""

import os
import runpy
import socket
import sys
import threading

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::ffff:127.0.0.1"}

bind, listen = socket.socket.bind, socket.socket.listen


def bind_to_loopback(self, address):
    if self.family in LOOPBACK:
        address = (LOOPBACK[self.family], *address[1:])
    bind(self, address)


def listen_and_say_where(self, *backlog):
    listen(self, *backlog)
    if self.family in LOOPBACK:
        print(self.getsockname()[1], flush=True)


def end_with_standard_input():
    sys.stdin.buffer.read()
    os._exit(0)


socket.socket.bind, socket.socket.listen = bind_to_loopback, listen_and_say_where
threading.Thread(target=end_with_standard_input, daemon=True).start()
module, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
