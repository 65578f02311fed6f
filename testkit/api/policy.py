"""What the admission policy of knative/ lets an account change, asked by dry runs."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from playground.cluster.api import Api, ApiError, Manifest
from testkit.api.clusters import POLICY, manifest

Operation = dict[str, Any]
_BOOKKEEPING = frozenset({"managedFields", "generation", "resourceVersion"})


def add(path: str, value: Any) -> Operation:
    """Return the operation that adds or replaces a value."""
    return {"op": "add", "path": path, "value": value}


def edited(**variables: str) -> Manifest:
    """Return the policy with other expressions for some of its variables."""
    policy = manifest(POLICY)
    for variable in policy["spec"]["variables"]:
        variable["expression"] = variables.get(variable["name"], variable["expression"])
    return policy


@dataclass(frozen=True)
class Answers:
    """
    What the API server answers to patches, as dry runs.

    Args:
        as_function: a client with the account that the policy is for.
        as_admin: a client that may do everything.
        namespace: the namespace of the objects.

    """

    as_function: Api
    as_admin: Api
    namespace: str

    async def path(self, made: Manifest) -> str:
        """Return the URL path of an object."""
        return await self.as_admin.path({**made, "metadata": {**made["metadata"], "namespace": self.namespace}})

    async def refusal(self, made: Manifest, *operations: Operation) -> str:
        """Return why the policy refuses a patch by the function; `""` if the API server accepts it."""
        path = await self.path(made)
        try:
            await self.as_function.patch(path, list(operations), "json", dryRun="All", fieldValidation="Strict")
        except ApiError as error:
            if error.status != HTTPStatus.FORBIDDEN or "ValidatingAdmissionPolicy" not in str(error):
                raise
            return str(error).partition(" also changes ")[2] or str(error)
        return ""

    async def changes(self, made: Manifest, *operations: Operation) -> bool:
        """Say whether the API server accepts a patch by an administrator, and it changes something."""
        path = await self.path(made)
        before = await self.as_admin.get(path)
        after = await self.as_admin.patch(path, list(operations), "json", dryRun="All")
        return _without_bookkeeping(before) != _without_bookkeeping(after)


def _without_bookkeeping(live: Manifest) -> Manifest:
    """Return an object without what the API server counts in it."""
    metadata = {key: value for key, value in live["metadata"].items() if key not in _BOOKKEEPING}
    return {**live, "metadata": metadata}
