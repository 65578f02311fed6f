"""Admission that changes what somebody writes, as a mutating webhook does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from testkit.api.namespace_fixture import NamespaceFixture


@asynccontextmanager
async def mutating(
    namespace: NamespaceFixture, expression: str, *operations: str, resource: str = "pods"
) -> AsyncIterator[None]:
    """
    Have admission change objects of the namespace, soon after the context begins.

    Args:
        namespace: the namespace.
        expression: a CEL expression that returns the JSON Patch.
        operations: `CREATE`, `UPDATE` or both.
        resource: the plural of the kind, and its API group if that is not the core group: `deployments.apps`.

    """
    plural, _, group = resource.partition(".")
    name = f"{namespace.name}-{plural}"
    kinds = {"apiVersion": "admissionregistration.k8s.io/v1beta1", "metadata": {"name": name}}
    rule = {"apiGroups": [group], "apiVersions": ["*"], "resources": [plural], "operations": list(operations)}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": selector},
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
    }
    made = [
        await namespace.api.apply({**kinds, "kind": "MutatingAdmissionPolicy", "spec": spec}),
        await namespace.api.apply({**kinds, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}}),
    ]
    yield
    for manifest in made:
        await namespace.api.delete(await namespace.api.path(manifest))
