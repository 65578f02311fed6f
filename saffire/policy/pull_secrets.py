"""
Pull secrets: which of them a template has to name, so that its pods can pull from the alternative.

`imagePullSecrets` of a live pod cannot be changed; that of a pod template can. If a pod names no pull secret, admission
gives it those of its ServiceAccount; if it names any, admission gives it none (kubernetes,
plugin/pkg/admission/serviceaccount). So once Saffire adds a first one to a template, it also adds those that the
template's pods were given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from saffire.kube.manifest import InvalidManifest, Manifest, items, text
from saffire.policy.plan import MissingSecret, Step
from saffire.policy.verification import Evidence, Verified
from saffire.registry.availability import Availability, Available


def pull_secrets(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the pull secrets of a pod, its ServiceAccount's included, or of a pod template."""
    return tuple(text(secret, "name") for secret in items(manifest, "spec", "imagePullSecrets"))


def compare_answers(
    without_secret: Mapping[str, Availability], with_secret: Mapping[str, Availability], secrets: Mapping[str, str]
) -> Evidence:
    """
    Return the answers about candidates, by image, and the pull secrets that the pod lacks for them.

    Args:
        without_secret: the answers of registries to the pull secrets that the pod has, and to anonymous requests.
        with_secret: the answers to the source's pull secret as well.
        secrets: the name of the source's pull secret, for each image for which the pod does not have it.

    """
    readable = {image for image, answer in without_secret.items() if isinstance(answer, Available)}
    lacking = {image for image, answer in with_secret.items() if isinstance(answer, Available)} - readable
    return Evidence(
        answers={
            image: without_secret[image] if image in readable else answer for image, answer in with_secret.items()
        },
        secrets={image: secrets[image] for image in lacking & secrets.keys()},
    )


def readable_by_pod(verified: Verified, steps: Iterable[Step]) -> Verified:
    """Return a candidate as it was verified; without its proof if the pod lacks its secret and no step adds that."""
    if not verified.secret or Step.TEMPLATE in steps:
        return verified
    why = f"the pod cannot read it without the pull secret {verified.secret}, which no live pod can be given"
    advice = f"delete the pod once what it is made from names {verified.secret} in imagePullSecrets"
    return replace(verified, proof=None, why=why, advice=advice)


def secrets_to_add(template: Manifest, missing: Iterable[MissingSecret]) -> tuple[str, ...]:
    """
    Return the names of the pull secrets that have to be added to a pod template.

    >>> missing = [MissingSecret(secret="ghcr-pull", pod_secrets=("own",))]
    >>> secrets_to_add({"spec": {"imagePullSecrets": [{"name": "own"}]}}, missing)
    ('ghcr-pull',)
    >>> secrets_to_add({"spec": {}}, missing)
    ('own', 'ghcr-pull')
    """
    try:
        before = pull_secrets(template)
    except InvalidManifest:  # the schema of a foreign kind may let anything pass
        return ()
    new = [secret for secret in missing if secret.secret not in before]
    pod_secrets = () if before else (name for secret in new for name in secret.pod_secrets)
    return tuple(dict.fromkeys((*pod_secrets, *(secret.secret for secret in new))))
