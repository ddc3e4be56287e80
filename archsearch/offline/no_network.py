"""Runs a program that has no network: in a network namespace of its own, where nothing is up but loopback.

``python no_network.py PROGRAM ARGUMENT...``, on Linux, as root or where users may have namespaces of their own. It imports
nothing of archsearch: what it runs may be another one. It keeps honest programs from the network, and shows that they need
none; it is no cage for hostile ones.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys

#: Exit code: this process cannot be kept from the network.
REFUSED = 78

#: Addresses for documentation (RFC 5737, RFC 3849): nobody has them, but every network knows a way towards them.
NOBODY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_GETFLAGS, _SETFLAGS, _UP = 0x8913, 0x8914, 1
_REQUEST = "16sh22x"  # struct ifreq: an interface's name, its flags


def leave_network() -> None:
    """Leave it for good, with all that this process starts.

    Raises:
        OSError: the system does not let it, or has no such thing.
    """
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no network namespaces")
    from fcntl import ioctl  # Unix has it

    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if library.unshare(_NEWNET) != 0:
        if library.unshare(_NEWUSER | _NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"unshare: {os.strerror(number)}")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_:
        (_, flags) = struct.unpack(_REQUEST, ioctl(any_, _GETFLAGS, struct.pack(_REQUEST, b"lo", 0)))
        ioctl(any_, _SETFLAGS, struct.pack(_REQUEST, b"lo", flags | _UP))


def way_out() -> str | None:
    """An address towards which this process knows a way, or None: it has tried, and there is no network. Sends nothing."""
    for family, address in NOBODY:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as trial:
                trial.connect((address, 9))
        except OSError:
            continue
        return address
    return None


def main() -> None:
    try:
        leave_network()
        if (address := way_out()) is not None:
            raise OSError(f"there is still a way to {address}")
    except OSError as error:
        print(f"this process cannot be kept from the network: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
