"""A decoder that misbehaves when a file tells it to: what the gate's child is there for."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import pydicom

from mammo_tests import hostile

JPEG_LS = "1.2.840.10008.1.2.4.80"

ATTEMPTS = """
import fcntl, mmap, os, socket, sys, threading

def fork():
    if not os.fork(): os._exit(0)

attempts = {
    "read a file": lambda: os.open(sys.executable, os.O_RDONLY),
    "write a file": lambda: os.open(os.environ["MARK"], os.O_CREAT | os.O_WRONLY),
    "list a folder": lambda: os.listdir("/"),
    "make a folder": lambda: os.mkdir(os.environ["MARK"]),
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "connect": lambda: socket.socket().connect(("127.0.0.1", 1)),
    "signal": lambda: os.kill(os.getppid(), 0),
    "signal by a descriptor": lambda: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()),
    "make a socket": lambda: socket.socket(),
    "make a pair": lambda: socket.socketpair(),
    "fork": fork,
    "make a thread": lambda: threading.Thread(target=len, args=([],)).start(),
    "make code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "import": lambda: __import__("colorsys"),
    "signal oneself": lambda: os.kill(os.getpid(), 0),
    "copy a descriptor": lambda: fcntl.fcntl(os.dup(1), fcntl.F_GETFL),
    "make memory": lambda: mmap.mmap(-1, 1 << 24),
}

def tried(name):
    try:
        attempts[name]()
    except Exception as error:
        return f"{type(error).__name__} {getattr(error, 'errno', '')}".strip()
    return "done"
"""
"""What a decoder that is taken over would like to do; ``tried`` tells how each attempt ends."""

# Stands before the real imagecodecs on the child's path: a comment in a JPEG-LS stream makes the "decoder" misbehave.
FAULTY_CODEC = f"""{ATTEMPTS}
import ctypes, importlib, os, signal, sys, time
here = sys.path.index(os.path.dirname(__file__))
folder = sys.path.pop(here)
del sys.modules["imagecodecs"]
real = importlib.import_module("imagecodecs")
sys.path.insert(here, folder)  # for the children of this process
decode = real.jpegls_decode

def jpegls_decode(stream, *args, **kwargs):
    fault = bytes(stream).split(b"FAULT:")[1].split(b";")[0].decode() if b"FAULT:" in bytes(stream) else ""
    if fault.startswith("try "): raise type(tried(fault[4:]), (Exception,), dict())()  # the refusal names the class
    if fault == "exit": os._exit(0)
    if fault == "segfault": os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang": time.sleep(600)
    if fault == "hold": ctypes.PyDLL(None).sleep(600)  # as one that computes and lets no other thread run
    if fault == "memory": hoard = [bytes(50 << 20) for _ in range(200)]  # addresses, untouched
    if fault == "leak": real.hoard = [bytearray(b"x") * (50 << 20) for _ in range(8)]
    if fault == "raise": raise RuntimeError("CANARYNAME")
    if fault == "systemexit": sys.exit("CANARYNAME")
    if fault == "interrupt": raise KeyboardInterrupt("CANARYNAME")
    if fault == "print": print("CANARYNAME" * 9999, flush=True); os.write(1, b"x" * 99999); os.write(2, b"x" * 99999)
    if fault == "nonsense": os.write(int(sys.argv[2]), b"\\x05\\0\\0\\0{{\\"a\\"")
    if fault == "later": signal.signal(signal.SIGALRM, lambda *_: os._exit(3))
    return decode(stream, *args, **kwargs)

real.jpegls_decode = jpegls_decode
sys.modules["imagecodecs"] = real
"""


def faulty(sound_path: Path, path: Path, fault: str) -> Path:
    """A sound image in JPEG-LS whose comment names a fault."""
    sound = sound_path.read_bytes()
    stream = bytes(imagecodecs.jpegls_encode(pydicom.dcmread(io.BytesIO(sound)).pixel_array))
    text = f"FAULT:{fault};".encode()
    commented = stream[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + stream[2:]
    path.write_bytes(hostile.recoded(sound, JPEG_LS, commented))
    return path
