# SPDX-License-Identifier: GPL-2.0-only
"""A program under test: started plain or with the preload library, watched for
descriptors, threads and output that are not its own.
"""
import collections
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

from .waiting import LIMIT, Failure, check, wait_until

# The library's threads are recognised by their names: executors nginx/0, nginx/1, and
# the link to the scheduler, nginx/link.
OWN_THREAD = re.compile(r"/(\d+|link)$")
# Threads that come when their allocator finds it time.
ANY_TIME = {"jemalloc_bg_thd"}


class Mode:
    """plain, or a mode of FLEXNET_OFFLOAD."""

    def __init__(self, name, library, workdir):
        self.name = name
        self.library = library
        self.workdir = pathlib.Path(workdir)

    @property
    def preloaded(self):
        return self.name != "plain"

    def environment(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEXNET_")}
        environment.pop("LD_PRELOAD", None)
        if self.preloaded:
            environment["LD_PRELOAD"] = str(self.library)
            environment["FLEXNET_OFFLOAD"] = self.name
            # No scheduler here, and none of the machine's is to be asked.
            environment["FLEXNET_SOCKET"] = str(self.workdir / "no-scheduler.sock")
            environment["FLEXNET_LOG"] = str(self.workdir / "flexnet.log")
        return environment


def _read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def _descriptors(pid):
    """How many of each kind: sockets and pipes count, whatever their numbers."""
    kinds = collections.Counter()
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
                kinds[re.sub(r"\[\d+\]$", "", target)] += 1
    except OSError:
        pass
    return kinds


def _threads(pid):
    """The names of its threads by task id."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return {}
    return {task: _read(f"/proc/{pid}/task/{task}/comm").strip() for task in tasks}


class Program:
    """One command and its descendants; killed at the end of the block."""

    def __init__(self, mode, command, port=None, preload=True, stdin=subprocess.DEVNULL, cwd=None, extra=None):
        self.mode = mode if preload else Mode("plain", None, mode.workdir)
        self.command = [str(word) for word in command]
        self.name = pathlib.Path(self.command[0]).name
        self.port = port
        self.output = mode.workdir / f"{self.name}-{id(self):x}.out"
        self.stdin = stdin
        self.cwd = cwd
        self.extra = extra or {}
        self.process = None

    def __enter__(self):
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                self.command, env=self.mode.environment() | self.extra, stdin=self.stdin,
                stdout=output, stderr=subprocess.STDOUT, cwd=self.cwd or self.mode.workdir,
                start_new_session=True)
        if self.port:
            wait_until(self._listens, f"{self.name} to listen on port {self.port}")
        return self

    def __exit__(self, kind, error, trace):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        text = self.text()
        if error is not None:
            print(f"--- {self.name} wrote:\n{text[-2000:]}", flush=True)
            return
        # A program's own output is its own.
        check("flexnet" not in text.lower(), f"the library wrote into {self.name}'s output:\n{text[-1000:]}")

    def _listens(self):
        """By /proc: a connection made to find out would be one to serve."""
        check(self.process.poll() is None, f"{self.name} ended: {self.process.returncode}\n{self.text()[-1500:]}")
        local = f":{self.port:04X} "
        for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
            for line in _read(f"/proc/net/{table}").splitlines()[1:]:
                fields = line.split()
                if f"{fields[1]} ".endswith(local) and fields[3] == state:
                    return True
        return False

    def text(self):
        return self.output.read_text(errors="replace")

    def wait(self, limit=LIMIT, status=0):
        """Until it ends by itself, with this exit status (or one of these)."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failure(f"{' '.join(self.command)} hangs: still there after {limit:.0f} s") from None
        wanted = status if isinstance(status, tuple) else (status,)
        check(code in wanted, f"{self.name} ended with {code}, not {status}:\n{self.text()[-1500:]}")
        return self.text()

    def stop(self, number=signal.SIGTERM, status=0):
        """Ends in good order within the limit."""
        self.process.send_signal(number)
        return self.wait(status=status)

    def processes(self):
        """It and its descendants."""
        found, look = [], [self.process.pid]
        while look:
            pid = look.pop()
            found.append(pid)
            for task in _threads(pid):
                look.extend(int(child) for child in _read(f"/proc/{pid}/task/{task}/children").split())
        return found

    def snapshot(self):
        """Descriptors by kind, the program's own threads, the library's."""
        fds, own, library = collections.Counter(), 0, 0
        for pid in self.processes():
            fds += _descriptors(pid)
            for name in _threads(pid).values():
                if OWN_THREAD.search(name):
                    library += 1
                elif name not in ANY_TIME:
                    own += 1
        return {"fds": fds, "threads": own, "library threads": library}

    def _settled(self, looks=5):
        """A snapshot once what the last clients left is gone."""
        last, same = None, 0
        while same < looks:
            time.sleep(0.02)
            now = self.snapshot()
            last, same = now, same + 1 if now == last else 0
        return last

    def belongings(self):
        """What must be as many as without the library."""
        # On a busy machine the last clients' connections go one by one.
        now = self._settled(25)
        return {"threads": now["threads"], "sockets": now["fds"]["socket:"]}

    @contextlib.contextmanager
    def keeps_nothing(self, offloads=True):
        """Nothing more is open or runs after the block than before it; and where
        the program offloads, its executors did some of it."""
        before = self._settled()
        ran = self.executor_runtime()
        yield

        def more():
            now = self.snapshot()
            found = {key: now[key] - before[key] for key in ("threads", "library threads") if now[key] > before[key]}
            descriptors = now["fds"] - before["fds"]
            started = found.get("library threads", 0)
            if started and self.mode.preloaded and now["library threads"] <= len(self.processes()):
                # The first send that pays came just now, or the first client of
                # this worker: an executor in a process, with what it waits on.
                del found["library threads"]
                descriptors -= collections.Counter({"anon_inode:[eventpoll]": started, "anon_inode:[eventfd]": started})
            return found | ({"descriptors": dict(descriptors)} if descriptors else {})
        try:
            wait_until(lambda: not more(), "leaks to go", 20)
        except Failure:
            raise Failure(f"{self.name} keeps more than before: {more()}") from None
        # Else the test would pass with a library that does nothing.
        if self.mode.name == "always" and offloads:
            check(before["library threads"] > 0, f"{self.name} has no executor")
            check(self.executor_runtime() > ran, f"{self.name}'s executors did nothing")
        if not self.mode.preloaded:
            check(before["library threads"] == 0, f"{self.name} has executors without the library")

    def executor_runtime(self):
        """Nanoseconds its executors ran, all together."""
        total = 0
        for pid in self.processes():
            for task, name in _threads(pid).items():
                if OWN_THREAD.search(name):
                    total += int((_read(f"/proc/{pid}/task/{task}/schedstat") or "0").split()[0])
        return total

    def is_preloaded(self):
        return "libflexnet_preload" in _read(f"/proc/{self.process.pid}/maps")

    def idles(self):
        """Nothing of it runs on by itself once there is nothing to do."""
        def asleep():
            for pid in self.processes():
                for task in _threads(pid):
                    state = re.search(r"^State:\s+(\w)", _read(f"/proc/{pid}/task/{task}/status"), re.M)
                    if state and state.group(1) in "RD":
                        return False
            return True
        wait_until(asleep, f"{self.name}'s threads to sleep", 20)


def run(mode, command, preload=True, limit=LIMIT, status=0, stdin=subprocess.DEVNULL, extra=None):
    """A command to its end; its output."""
    with Program(mode, command, preload=preload, stdin=stdin, extra=extra) as program:
        return program.wait(limit, status)
