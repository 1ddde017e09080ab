"""Cuts a process off from every network and from other programs, for good: a seccomp filter without sockets.

Request bytes must never leave the box through native inference code, and that code must not administer the box over the
daemon's own unix socket, whatever a hostile model makes it do: no socket but netlink ones can be made, and none can be
connected. What was inherited (the listener, the control channel) works on, pairs can be made. netlink stays because GPU
drivers ask the kernel for devices with it. io_uring could make sockets behind the filter's back, so it is refused as
well. See seccomp(2) and Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import platform
import socket
import struct

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

# Classic BPF: load a word of struct seccomp_data, jump if equal, jump if greater or equal, return.
_LD, _JEQ, _JGE, _RET = 0x20, 0x15, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_FIRST_ARGUMENT = 0, 4, 16

_IO_URING_SETUP = 425
_X32_BIT = 0x40000000
# machine: (AUDIT_ARCH_*, the numbers of socket(2) and connect(2))
_ARCHES = {"x86_64": (0xC000003E, 41, 42), "aarch64": (0xC00000B7, 198, 203)}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_network() -> bool:
    """Installs the filter for this thread and all that it starts; False where the kernel or machine has none."""
    known = _ARCHES.get(platform.machine())
    if known is None:
        return False
    code = _filter(*known)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(arch: int, socket_number: int, connect_number: int) -> bytes:
    refused = _ERRNO | errno.EACCES
    steps = (
        (_LD, 0, 0, _OFFSET_ARCH),
        (_JEQ, 1, 0, arch),
        (_RET, 0, 0, refused),  # another ABI (i386 on x86-64) has other numbers: refuse it whole
        (_LD, 0, 0, _OFFSET_NUMBER),
        (_JGE, 6, 0, _X32_BIT),
        (_JEQ, 5, 0, _IO_URING_SETUP),
        (_JEQ, 4, 0, connect_number),
        (_JEQ, 0, 2, socket_number),
        (_LD, 0, 0, _OFFSET_FIRST_ARGUMENT),
        (_JEQ, 0, 1, int(socket.AF_NETLINK)),
        (_RET, 0, 0, _ALLOW),
        (_RET, 0, 0, refused),
    )
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
