"""The embedded backend as a process: start it, wait until it answers, stop it.

Called by `make run` (state kept in `.local/state`) and by the tests (no state). Listens on 127.0.0.1 only. It never
deploys anything; that is `infra/local/stack.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".local" / "ministack-venv" / "bin" / "python"
REGION = "us-east-1"
ACCOUNT = "000000000000"
START_SECONDS = 60


class Backend:
    """One ministack process. `state` None keeps nothing; `auth` enforces the policies of roles as AWS would."""

    def __init__(
        self, port: int | None = None, state: Path | None = None, *, auth: bool = False, log: Path | None = None
    ):
        self.port = port or free_port()
        self.state = state
        self.auth = auth
        self.log = log
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Backend:
        """Start and wait until it answers.

        Raises: RuntimeError when it is not installed, its port is taken, or it does not answer within a minute.
        """
        if not PYTHON.exists():
            raise RuntimeError("the embedded backend is not installed: run 'make setup'")
        if _is_taken(self.port):
            raise RuntimeError(f"port {self.port} on 127.0.0.1 is taken: another copy running?")
        output = self.log.open("ab") if self.log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("keeper.py"))],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us alone: we stop it last, after those who use it
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the embedded backend did not start; see {self.log or 'its log (none kept)'}")
            time.sleep(0.1)
        return self

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2) as answer:
                json.load(answer)
                return True
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        """Ask it to save and end; make it end when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End it as a power cut would (tests)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def environment(self) -> dict[str, str]:
        """What a client needs in its environment to talk to this backend."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
        # ministack runs Lambda functions with the `python3` it finds first.
        inherited["PATH"] = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{inherited.get('PATH', '')}"
        state = {}
        if self.state is not None:
            self.state.mkdir(parents=True, exist_ok=True)
            state = {
                "PERSIST_STATE": "1",
                "STATE_DIR": str(self.state),
                "S3_PERSIST": "1",
                "S3_DATA_DIR": str(self.state / "s3"),
            }
        return {
            **inherited,
            **state,
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "AUTH": "true" if self.auth else "false",
        }


def erase(state: Path) -> None:
    """Forget everything a backend kept."""
    shutil.rmtree(state, ignore_errors=True)


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
