"""
Pull secrets: which pull secrets a pod template has to name, so that its pods can pull the alternative.

The alternative is the image to which Saffire moves a container. `imagePullSecrets` of a live pod cannot be changed, but
`imagePullSecrets` of a pod template can. If a pod names no pull secret, the admission of the API server gives the pod
the pull secrets of its ServiceAccount. If a pod names a pull secret, admission adds none (kubernetes,
plugin/pkg/admission/serviceaccount). So if Saffire adds the first pull secret to a template, it also adds the pull
secrets that admission gave the template's pods.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from saffire.kube.manifest import InvalidManifest, Manifest, items, text
from saffire.policy.plan import MissingSecret, Step
from saffire.policy.verification import Evidence, Verified
from saffire.registry.availability import Availability, Available


def pull_secrets(manifest: Manifest) -> tuple[str, ...]:
    """
    Return the names in `imagePullSecrets` of a pod or of a pod template.

    In a live pod, they include the pull secrets that admission took from the pod's ServiceAccount.
    """
    return tuple(text(secret, "name") for secret in items(manifest, "spec", "imagePullSecrets"))


def compare_answers(
    without_secret: Mapping[str, Availability], with_secret: Mapping[str, Availability], secrets: Mapping[str, str]
) -> Evidence:
    """
    Return the answers of registries about candidates, and the names of the pull secrets that the pod lacks for them.

    Args:
        without_secret: by image, the answers to requests with the pod's own pull secrets, and without any.
        with_secret: by image, the answers to requests with these pull secrets and that of the candidate's source.
        secrets: by image, the name of the source's pull secret, if the pod does not have that secret.

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
    """
    Return `verified`, the result for a candidate; without its proof if the pod could not pull the candidate.

    The pod could not if it lacks the pull secret and no step patches the template, which can be given the secret.
    """
    if not verified.secret or Step.TEMPLATE in steps:
        return verified
    why = f"the pod cannot read it without the pull secret {verified.secret}, which no live pod can be given"
    advice = f"delete the pod once what it is made from names {verified.secret} in imagePullSecrets"
    return replace(verified, proof=None, why=why, advice=advice)


def secrets_to_add(template: Manifest, missing: Iterable[MissingSecret]) -> tuple[str, ...]:
    """
    Return the names of the pull secrets that Saffire has to add to a pod template.

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
