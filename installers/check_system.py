"""Say in one line which system packages are missing, before Qt says it in its own way.

    python check_system.py engine|window|test

Runs with any Python 3 and nothing installed, on Linux; elsewhere Qt's wheels bring all they need. The
lists are the libraries that the PySide6 wheels link against but do not carry (`objdump -p` on libQt6Gui,
libQt6DBus, the xcb platform plug-in), and those of PyTorch.
"""

import ctypes
import os
import sys

ENGINE = {
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
}
WIDGETS = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libzstd.so.1": "libzstd1",
}
X11 = {
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}


def needed(purpose: str, environment: "os._Environ[str] | dict[str, str]") -> "dict[str, str]":
    """Library → Debian package for what is to be done; X11's only where a window is to open on X11."""
    libraries = dict(ENGINE)
    if purpose in ("window", "test"):
        libraries.update(WIDGETS)
    if purpose == "window" and environment.get("DISPLAY"):
        libraries.update(X11)
    return libraries


def missing(libraries: "dict[str, str]") -> "dict[str, str]":
    """Those that the dynamic loader does not find."""
    absent = {}
    for library, package in libraries.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            absent[library] = package
    return absent


def main(purpose: str) -> int:
    if not sys.platform.startswith("linux"):
        return 0
    absent = missing(needed(purpose, os.environ))
    if not absent:
        return 0
    packages = " ".join(sorted(set(absent.values())))
    print(f"Missing {', '.join(sorted(absent))}; install: sudo apt-get install {packages}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("engine", "window", "test"):
        sys.exit("usage: check_system.py engine|window|test")
    sys.exit(main(sys.argv[1]))
