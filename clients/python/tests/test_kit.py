"""The conformance kit (clients/kit), run from Python against the session itself."""

import base64
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from support import LONG, ROOT, dblock

KIT = os.environ.get("DBLOCK_KIT") or os.path.join(ROOT, "clients", "kit")
STARTED = time.monotonic()


def load(name, member):
    with open(os.path.join(KIT, name), encoding="utf-8") as file:
        return json.load(file)[member]


class Client:
    """A session, and what it has said."""

    def __init__(self, directory, flags):
        self.process = subprocess.Popen(
            [dblock.find_binary(), "session", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
        )
        self.lines = []
        self.said = queue.Queue()
        self.over = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def take(self, chosen, seconds=10.0):
        """The first line that is chosen, taken away; None if there is none in time."""
        end = time.monotonic() + seconds
        while True:
            for index, line in enumerate(self.lines):
                if chosen(line):
                    return self.lines.pop(index)
            try:
                self.lines.append(self.said.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                return None

    def close(self):
        if not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except OSError:
                pass

    def end(self):
        self.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Words:
    """What stands for what: {dir} and the like, and what was saved."""

    def __init__(self, directory, clients):
        self.saved = {}
        self.clients = clients
        dead = subprocess.Popen(["true"])
        dead.wait()
        self.plain = {"dir": directory, "host": os.uname().nodename, "pid": os.getpid(), "dead": dead.pid}
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                self.plain["boot"] = file.read().strip()
            self.plain["pidns"] = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
        except OSError:
            pass
        self.now = int(time.time() * 1000)

    def word(self, match):
        name = match.group(1)
        if name in self.plain:
            return str(self.plain[name])
        if name.startswith("pid:"):
            return str(self.clients[name[4:]].process.pid)
        moved = re.fullmatch(r"now([+-]\d+)?", name)
        if moved:
            return str(self.now + int(moved.group(1) or 0))
        return match.group(0)

    def text(self, text):
        return re.sub(r"\{([a-z]+(?::\w+|[+-]\d+)?)\}", self.word, text)

    def fill(self, value):
        if isinstance(value, str):
            filled = self.text(value)
            return int(filled) if re.fullmatch(r"\{(pid|dead|pid:\w+)\}", value) else filled
        if isinstance(value, list):
            return [self.fill(each) for each in value]
        if isinstance(value, dict):
            if "$ref" in value:
                return self.saved[value["$ref"]]
            return {name: self.fill(each) for name, each in value.items()}
        return value

    def why_not(self, want, have, where=""):
        """Why it does not fit; empty if it does."""
        if isinstance(want, dict) and any(name.startswith("$") for name in want):
            return self.matches(want, have, where)
        if isinstance(want, dict):
            if not isinstance(have, dict):
                return f"{where} is {have!r}, no object"
            for name, each in want.items():
                absent = isinstance(each, dict) and each.get("$absent") is True
                if name not in have:
                    if absent:
                        continue
                    return f"{where}.{name} is missing"
                if absent:
                    return f"{where}.{name} is {have[name]!r}"
                problem = self.why_not(each, have[name], f"{where}.{name}")
                if problem:
                    return problem
            return ""
        if isinstance(want, list):
            if not isinstance(have, list) or len(want) != len(have):
                return f"{where} is {have!r}, want {want!r}"
            return next(filter(None, map(self.why_not, want, have, [where] * len(want))), "")
        want = self.fill(want)
        if type(want) is bool or type(have) is bool:
            return "" if want is have else f"{where} is {have!r}, want {want!r}"
        return "" if want == have else f"{where} is {have!r}, want {want!r}"

    def matches(self, want, have, where):
        number = isinstance(have, (int, float)) and not isinstance(have, bool)
        kinds = {
            "number": number,
            "string": isinstance(have, str),
            "boolean": isinstance(have, bool),
            "object": isinstance(have, dict),
            "array": isinstance(have, list),
            "null": have is None,
        }
        fits = True
        for name, value in want.items():
            if name == "$is":
                fits = kinds[value]
            elif name == "$save":
                self.saved[value] = have
            elif name == "$ref":
                fits = (self.saved[value] == have) != bool(want.get("$not"))
            elif name == "$has":
                fits = isinstance(have, str) and self.text(value) in have
            elif name == "$min":
                fits = number and have >= value
            elif name == "$max":
                fits = number and have <= value
            elif name == "$above":
                fits = number and have > self.saved[value]
            elif name == "$contains":
                fits = isinstance(have, list) and any(not self.why_not(value, each) for each in have)
            elif name != "$not":
                raise AssertionError(f"the kit has a matcher {name} that this runner does not know")
            if not fits:
                return f"{where} is {have!r}, want {want!r}"
        return ""


@unittest.skipUnless(os.path.isdir(KIT), "there is no clients/kit in this checkout")
class Kit(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        time.sleep(max(0.0, 1.1 - (time.monotonic() - STARTED)))  # the kit asks for a runner that has lived for a second

    def room(self):
        directory = os.path.realpath(tempfile.mkdtemp(prefix="dblock-kit-"))
        self.addCleanup(shutil.rmtree, directory, True)
        return directory

    def test_session(self):
        for scenario in load("session.json", "scenarios"):
            with self.subTest(scenario["name"]):
                self.scenario(scenario)

    def scenario(self, scenario):
        directory, clients = self.room(), {}
        words = Words(directory, clients)

        def client(name):
            if name not in clients:
                flags = words.fill((scenario.get("flags") or {}).get(name) or [])
                clients[name] = Client(directory, flags)
            return clients[name]

        try:
            if scenario.get("needs"):
                probe = Client(directory, [])
                can = probe.take(lambda line: line.get("event") == "hello")["capabilities"]
                probe.end()
                if not set(scenario["needs"]) <= set(can):
                    return
            for step in scenario["steps"]:
                self.step(step, words, client)
            for each in clients.values():
                if not each.over:
                    each.close()
                    self.assertEqual(0, each.process.wait(10), "exit code at the end of the input")
        finally:
            for each in clients.values():
                each.end()

    def step(self, step, words, client):
        if "write" in step:
            with open(words.text(step["write"]), "w", encoding="utf-8") as file:
                file.write(words.text(step["text"]))
        elif "remove" in step:
            os.unlink(words.text(step["remove"]))
        elif "rename" in step:
            os.rename(words.text(step["rename"]), words.text(step["to"]))
        elif "exists" in step:
            self.assertEqual(step["is"], os.path.exists(words.text(step["exists"])), step)
        elif "send" in step:
            client(step["client"]).write(json.dumps(words.fill(step["send"])).encode() + b"\n")
        elif "line" in step:
            text = words.text(step["line"]) * step.get("times", 1)
            client(step["client"]).write(text.encode() + b"\n")
        elif "expect" in step:
            want = step["expect"]
            key = "id" if want.get("id", {"$absent": True}) != {"$absent": True} else "event"
            start = {key: want[key]}
            line = client(step["client"]).take(lambda line: key in line and not words.why_not(start, line))
            self.assertIsNotNone(line, f"nothing came for {step}; there is {client(step['client']).lines}")
            self.assertEqual("", words.why_not(want, line), f"{step}\n{line}")
        elif "none" in step:
            line = client(step["client"]).take(lambda line: not words.why_not(step["none"], line), 0.0)
            self.assertIsNone(line, step)
        elif "end" in step:
            one = client(step["client"])
            one.over = True
            if step["end"] == "input":
                one.close()
            else:
                one.process.send_signal(signal.SIGKILL)
        elif "exit" in step:
            one = client(step["client"])
            one.over = True
            code = one.process.wait(10)
            if step["exit"] != "any":
                self.assertEqual(step["exit"], code)
        else:
            self.fail(f"the kit has a step that this runner does not know: {step}")

    def test_notices(self):
        for notice in load("notices.json", "notices"):
            with self.subTest(notice["name"]):
                self.notice(notice)

    def notice(self, notice):
        directory = self.room()
        database = os.path.join(directory, "app.db")
        words = Words(directory, {})
        if "{boot}" in notice.get("text", "") and "boot" not in words.plain:
            return
        flags = words.fill(notice.get("flags") or [])
        client = Client(directory, flags)
        try:
            ids = iter(range(1, 100))

            def ask(request):
                number = next(ids)
                client.write(json.dumps({"id": number, "db": database, **request}).encode() + b"\n")
                answer = client.take(lambda line: line.get("id") == number, LONG)
                self.assertIsNotNone(answer, request)
                return answer

            if notice.get("used"):
                ask({"op": "release", "hold": ask({"op": "acquire"})["hold"]})
            path = os.path.join(directory, ".app.lock")
            words.now = int(time.time() * 1000)
            content = None
            if "text" in notice:
                content = words.text(notice["text"]).encode()
            elif "bytes" in notice:
                content = base64.b64decode(notice["bytes"])
            if content is not None:
                with open(path, "wb") as file:
                    file.write(content)
                if notice.get("file_age_ms"):
                    then = time.time() - notice["file_age_ms"] / 1000
                    os.utime(path, (then, then))
            if "status" in notice:
                answer = ask({"op": "status"})
                self.assertEqual("", words.why_not(notice["status"], answer.get("status")), answer)
            if "acquire" in notice:
                answer = ask({"op": "acquire", "wait": 0})
                self.assertEqual(notice["acquire"], "ok" if answer["ok"] else answer["error"]["code"], answer)
                if answer["ok"]:
                    ask({"op": "release", "hold": answer["hold"]})
        finally:
            client.end()


if __name__ == "__main__":
    unittest.main()
