"""
Registries: whether an image is there, is for these nodes, and is whole.

Many questions are asked at once, and all answers are there within one budget of time. Each is an `Availability`,
whatever happens: nothing here raises because a registry is down, odd or hostile.

As little is asked as answers a question: without platforms only HEAD, which no registry counts as a pull. With them,
the manifest itself, by GET at once, since HEAD first would only cost a round trip; and by HEAD again once it is known.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Self

from saffire.access import Access, Tokens
from saffire.availability import Availability, Available, Denied, Unreachable
from saffire.cache import Cache
from saffire.distribution import Distribution
from saffire.inquiry import Inquiry, Named, Question

_ROOM, _ROOM_FOR_IMAGES = 1024, 256
_POSITIVE_SECONDS = 10
# More for one repository there are only while a password is being changed.
_MAX_CREDENTIALS = 4


class Registries:
    """
    All registries; close after use, or use as an async context manager.

    Args: distribution: the way to them, closed with this. clock: tells seconds from any start.
    """

    def __init__(self, distribution: Distribution, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._distribution = distribution
        self._tokens = Tokens(self._distribution, clock)
        self._known: Cache[str, Named] = Cache(_ROOM_FOR_IMAGES, clock)
        self._available: Cache[tuple[object, ...], Available] = Cache(_ROOM, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._distribution.close()

    async def ask(self, questions: Iterable[Question], *, budget_seconds: float) -> dict[Question, Availability]:
        """
        Return the answers, in the order of the questions, after `budget_seconds` at the latest.

        That the image is there is believed for some seconds. That it is not, or that nobody knows, is asked again.
        """
        deadline = asyncio.get_running_loop().time() + budget_seconds
        late = f"no answer within {budget_seconds:g} s"
        asked = tuple(dict.fromkeys(questions))
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(self._answer(question, deadline, late)) for question in asked]
        return {question: answer.result() for question, answer in zip(asked, answers, strict=True)}

    def known(self, question: Question) -> Available | None:
        """Return what was found some seconds ago, and is still believed; `None` where a registry has to be asked."""
        return self._available.get(self._key(question))

    def _key(self, question: Question) -> tuple[object, ...]:
        prints = tuple(map(self._tokens.fingerprint, question.credentials))
        return question.reference, question.platforms, question.strict, prints

    async def _answer(self, question: Question, deadline: float, late: str) -> Availability:
        if known := self.known(question):
            return known
        answer = await self._search(question, deadline, late)
        if isinstance(answer, Available):
            self._available.keep(self._key(question), answer, _POSITIVE_SECONDS)
        return answer

    async def _search(self, question: Question, deadline: float, late: str) -> Availability:
        """Ask with each credential in turn, until one is not denied, or time is up."""
        answer: Availability = Denied()
        for credential in question.credentials[:_MAX_CREDENTIALS] or (None,):
            access = Access(
                question.reference.repository, credential, distribution=self._distribution, tokens=self._tokens
            )
            inquiry = Inquiry(question, access, self._known, late=late)
            try:
                async with asyncio.timeout_at(deadline):
                    await inquiry.run()
            except TimeoutError:
                return inquiry.answer
            except Exception as error:  # noqa: BLE001 - a stranger's answer costs its candidate, and never the repair
                return Unreachable(f"its answer is not understood: {type(error).__name__}")
            answer = inquiry.answer
            if not isinstance(answer, Denied):
                return answer
        return answer
