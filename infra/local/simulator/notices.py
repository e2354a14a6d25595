"""The postman: sends the messages that are due, again and again with the provider's own pauses, until they are taken.

Also sets off what happens by itself in the books (payments running out, slow ones arriving). One thread watches the
time, a few carry messages; fifty copies of one message really arrive together.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from infra.local.simulator import NoticeRequest
from infra.local.simulator.world import Event, World

ANSWER_SECONDS = 15
CARRIERS = 16
_LONGEST_NAP_SECONDS = 0.5


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


class Postman:
    def __init__(self, world: World):
        self.world = world
        self._ending = threading.Event()
        self._carriers = ThreadPoolExecutor(CARRIERS, "carrier")
        self._under_way: set[str] = set()
        self._thread = threading.Thread(target=self._watch, name="postman", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is under way is finished; what waits is kept in the books for the next start."""
        self._ending.set()
        self.world.something_is_due.set()
        self._thread.join()
        self._carriers.shutdown(cancel_futures=True)

    def _watch(self) -> None:
        while not self._ending.is_set():
            self.world.something_is_due.clear()
            next_at = self.world.run_due()
            now = self.world.clock()
            for event in self.world.events():
                if event.state != "waiting" or event.event_id in self._under_way:
                    continue
                if event.next_at <= now:
                    self._under_way.add(event.event_id)
                    self._carriers.submit(self._deliver, event)
                else:
                    next_at = min(next_at, event.next_at)
            self.world.something_is_due.wait(max(0.0, min(next_at - self.world.clock(), _LONGEST_NAP_SECONDS)))

    def _deliver(self, event: Event) -> None:
        try:
            is_taken, answer = self._attempt(event)
            with self.world.changing():
                event.attempts += 1
                event.last_answer = answer
                pauses = self.world.module(event.provider).RETRY_SECONDS
                if is_taken:
                    event.state = "taken"
                elif event.attempts > len(pauses):
                    event.state = "given_up"
                else:
                    event.next_at = self.world.clock() + pauses[event.attempts - 1] / self.world.speed
        except Exception as error:  # a mistake in a provider's module: seen in /_control/records, not a silent end
            with self.world.changing():
                event.state, event.last_answer = "given_up", f"could not be made: {error!r}"
        finally:
            self._under_way.discard(event.event_id)
            self.world.something_is_due.set()

    def _attempt(self, event: Event) -> tuple[bool, str]:
        module = self.world.module(event.provider)
        record = self.world.find(event.provider, event.our_no)
        made = module.notice(self.world, record, event) if record is not None else None
        if made is None:
            return True, "nothing to send"
        url = made.url or self.world.endpoint(event.provider)
        if not url:
            return False, "no address to send to"
        copies = event.copies if event.attempts == 0 else 1
        with ThreadPoolExecutor(copies) as together:  # carriers of their own: really all at once
            answers = list(together.map(lambda _: _post(url, made), range(copies)))
        status, body = answers[0]
        is_taken = status is not None and bool(module.taken(status, body))
        return is_taken, f"{status or 'no answer'} {body[:200].decode(errors='replace')}".strip()


def _post(url: str, made: NoticeRequest) -> tuple[int | None, bytes]:
    request = urllib.request.Request(url, data=made.body, headers=made.headers, method="POST")
    try:
        with _OPENER.open(request, timeout=ANSWER_SECONDS) as answer:
            return answer.status, answer.read(65_536)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(65_536)
    except (OSError, ValueError):
        return None, b""
