"""What registries answer in a rehearsal: some count as dead, and the others are taken as good or really asked."""

from collections.abc import Iterable
from typing import Self

from saffire.registry.address_guard import AddressGuard
from saffire.registry.availability import Availability, Available, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.reference import Reference
from saffire.registry.transport import RegistryTransport
from saffire.settings import Settings
from saffire.sources.candidates import Candidate

DEAD = Unreachable("it counts as dead in this rehearsal", is_silent=True, is_server_error=True)
"""
The answer of a dead registry.

An error of the server (5xx) proves an outage by itself. Silence would prove it only of a registry that has answered
Saffire before.
"""
# What is taken as present has this digest if no running container tells another one.
_NO_DIGEST = f"sha256:{64 * '0'}"


class RehearsedRegistries(ImageChecker):
    """
    Answers the function's questions about images, for a rehearsal.

    Args:
        transport: sends the requests, if registries are asked.
        dead: the domains of the registries that count as dead.
        asks: whether the other registries are asked. If not, each of them has every image, complete, for every
            platform and readable by everybody, with the digest that the running containers have.

    """

    def __init__(self, transport: RegistryTransport, *, dead: frozenset[str], asks: bool) -> None:
        super().__init__(transport)
        self.dead = dead
        self.asks = asks
        # By namespace and candidate: the digests of the image that the candidate would replace.
        self._digests: dict[tuple[str, Reference], frozenset[str]] = {}

    @classmethod
    def of(cls, settings: Settings, *, asks: bool) -> Self:
        """Return the registries as the function would ask them with these settings; none of them is dead."""
        guard = AddressGuard(settings.denied_networks)
        transport = RegistryTransport(settings.insecure_registries, guard=guard, proxies=settings.proxies)
        return cls(transport, dead=frozenset(), asks=asks)

    def with_dead(self, dead: frozenset[str]) -> "RehearsedRegistries":
        """Return registries of which these are dead, with the same connections, and of which nothing is known yet."""
        return RehearsedRegistries(self._transport, dead=dead, asks=self.asks)

    def take_as_equal(self, namespace: str, candidates: Iterable[Candidate], digests: frozenset[str]) -> None:
        """Have the candidates of an image of a namespace the digests with which containers there run that image."""
        for candidate in candidates:
            key = namespace, candidate.reference
            self._digests[key] = self._digests.get(key, frozenset()) | digests

    async def check(
        self, questions: Iterable[Question], *, budget_seconds: float, asker: str = ""
    ) -> dict[Question, Availability]:
        """Return the answer to each question: made up, or that of the registry."""
        asked, answers = [], dict[Question, Availability]()
        for question in dict.fromkeys(questions):
            if question.reference.repository.domain in self.dead:
                answers[question] = DEAD
            elif self.asks:
                asked.append(question)
            else:
                answers[question] = self._taken_as_present(question.reference, asker)
        if asked:
            answers |= await super().check(asked, budget_seconds=budget_seconds, asker=asker)
        return answers

    def cached(self, question: Question) -> Available | None:
        """Return the cached answer to a question; `None` if there is none, or if the answer has to be made up."""
        is_made_up = not self.asks or question.reference.repository.domain in self.dead
        return None if is_made_up else super().cached(question)

    def _taken_as_present(self, reference: Reference, namespace: str) -> Available:
        known = self._digests.get((namespace, reference), frozenset())
        digest = reference.digest or min(known, default=_NO_DIGEST)
        return Available(digest=digest, manifests=known, suits=True, complete=True)
