#!/usr/bin/env python3
"""Draws the terminal of the README: docs/dev/picture.py [DBLOCK] > docs/terminal.svg

Runs dblock in tmux, in namespaces of its own, where there is a directory /srv/app on a host
named laptop, waits for what the screen must show, and draws the screen as SVG. Needs tmux and
unshare; Linux.
"""

import html
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time

WIDTH, HEIGHT = 108, 22
CELL, LINE, MARGIN = 8.4, 18, 14

# What is typed, and what the screen must show before the next line is.
TYPED = [
    ("dblock -d app.db -p migration -- ./migrate.sh &", r"\[1\] \d+\n\$$"),
    ("dblock status -d app.db", r"Age: 2[^$]*\$$"),
    ("dblock -n -q -d app.db -- ./report.sh", r"was not run[^$]*\$$"),
    ("echo $?", r"\n75\n\$$"),
    ("dblock -d app.db -w 1m -- ./report.sh", r"waiting[^$]*$"),
]

# Colours on a light and on a dark page, by tmux's numbers.
COLOURS = {"31": ("#b3261e", "#ff8a80"), "32": ("#1a7f37", "#7ee787"), "33": ("#9a6700", "#e3b341"),
           "36": ("#0b6e75", "#76e3ea"), "2": ("#6e7781", "#8b949e")}


def run(binary):
    """Types all lines in tmux and returns the screen, with escape sequences."""
    with tempfile.TemporaryDirectory() as tmp:
        socket = os.path.join(tmp, "socket")
        inside = (
            "mount -t tmpfs none /srv && mkdir /srv/app && cd /srv/app && hostname laptop && "
            "printf '#!/bin/sh\\nexec sleep 60\\n' >migrate.sh && cp migrate.sh report.sh && chmod +x *.sh && touch app.db && "
            "exec env -i PATH='%s:/usr/bin:/bin' TERM=xterm-256color LC_ALL=C.UTF-8 PS1='$ ' HOME=/srv bash --norc --noediting"
            % os.path.dirname(binary))

        def tmux(*arguments):
            return subprocess.run(["tmux", "-S", socket, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout

        tmux("-f", "/dev/null", "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), "unshare -rum sh -c " + shlex.quote(inside))
        try:
            until(tmux, r"\$$")
            for line, shown in TYPED:
                if "status" in line:
                    time.sleep(2)  # so that there is an age to show
                tmux("send-keys", "-l", line)
                tmux("send-keys", "Enter")
                until(tmux, shown)
            return tmux("capture-pane", "-p", "-e")
        finally:
            tmux("kill-server")


def until(tmux, shown):
    """Waits, for 20 seconds, until the screen shows something."""
    end = time.monotonic() + 20
    while True:
        screen = tmux("capture-pane", "-p").rstrip("\n")
        if re.search(shown, screen):
            return
        if time.monotonic() > end:
            sys.exit("never: %s\n%s" % (shown, screen))
        time.sleep(0.05)


def draw(screen):
    """The screen as SVG."""
    lines = screen.rstrip("\n").split("\n")
    width, height = WIDTH * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="ui-monospace,'
           ' SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="14">' % (width, height, width, height),
           "<title>dblock in a terminal</title>", "<style>",
           "rect{fill:#f6f8fa;stroke:#d0d7de}text{fill:#1f2328;white-space:pre}.b{font-weight:bold}"]
    out += [".c%s{fill:%s}" % (code, light) for code, (light, _) in COLOURS.items()]
    out.append("@media(prefers-color-scheme:dark){rect{fill:#0d1117;stroke:#30363d}text{fill:#e6edf3}%s}"
               % "".join(".c%s{fill:%s}" % (code, dark) for code, (_, dark) in COLOURS.items()))
    out += ["</style>", '<rect x=".5" y=".5" width="%d" height="%d" rx="8"/>' % (width - 1, height - 1)]
    style = set()
    for number, line in enumerate(lines):
        spans = []
        for part in re.split(r"(\x1b\[[0-9;]*m)", line):
            if part.startswith("\x1b["):
                for code in part[2:-1].split(";"):
                    style = set() if code in ("", "0") else {c for c in style if code not in ("39", "22")} | {code}
            elif part:
                classes = ["c" + c for c in style if c in COLOURS] + (["b"] if "1" in style else [])
                text = html.escape(part, quote=False)
                spans.append('<tspan class="%s">%s</tspan>' % (" ".join(classes), text) if classes else text)
        if spans:
            out.append('<text x="%d" y="%d" xml:space="preserve">%s</text>' % (MARGIN, MARGIN + 13 + number * LINE, "".join(spans)))
    return "\n".join(out + ["</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(draw(run(sys.argv[1] if len(sys.argv) > 1 else "/usr/local/bin/dblock")))
