"""
Pull secrets: what a template has to name, so that its pods can read the alternative that it is moved to.

`imagePullSecrets` of a live pod cannot be changed, those of a pod template can. A pod that names none is given those of
its ServiceAccount by admission, and one that names any is not (kubernetes, plugin/pkg/admission/serviceaccount). So a
template that names none must name what its pods were given too, once it names one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from saffire.kube.manifest import InvalidManifest, Manifest, items, text
from saffire.policy.plan import MissingSecret, Step
from saffire.policy.verification import Evidence, Verified
from saffire.registry.availability import Availability, Available


def pull_secrets(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the pull secrets of a pod, its ServiceAccount's included, or of a pod template."""
    return tuple(text(one, "name") for one in items(manifest, "spec", "imagePullSecrets"))


def compare_answers(
    alone: Mapping[str, Availability], helped: Mapping[str, Availability], secrets: Mapping[str, str]
) -> Evidence:
    """
    Return what is known of candidates, by image, and which pull secrets the pod lacks for them.

    Args:
        alone: what registries say to whoever has the pull secrets that the pod has, or says nothing of itself.
        helped: the same, to whoever has that of the source too.
        secrets: which that is, where the pod does not have it.

    """
    seen = {image for image, answer in alone.items() if isinstance(answer, Available)}
    lacking = {image for image, answer in helped.items() if isinstance(answer, Available)} - seen
    return Evidence(
        answers={image: alone[image] if image in seen else answer for image, answer in helped.items()},
        secrets={image: secrets[image] for image in lacking & secrets.keys()},
    )


def readable_by_pod(judged: Verified, steps: Iterable[Step]) -> Verified:
    """Return a candidate as it was judged; without its proof where none of the steps gives pods what they lack."""
    if not judged.secret or Step.TEMPLATE in steps:
        return judged
    why = f"the pod cannot read it without the pull secret {judged.secret}, which no live pod can be given"
    advice = f"delete the pod once what it is made from names {judged.secret} in imagePullSecrets"
    return replace(judged, proof=None, why=why, advice=advice)


def secrets_to_add(template: Manifest, lacks: Iterable[MissingSecret]) -> tuple[str, ...]:
    """
    Return the names that a pod template is to name after those that it does.

    >>> secrets_to_add({"spec": {"imagePullSecrets": [{"name": "own"}]}}, [MissingSecret(secret="ghcr-pull", pod_secrets=("own",))])
    ('ghcr-pull',)
    >>> secrets_to_add({"spec": {}}, [MissingSecret(secret="ghcr-pull", pod_secrets=("given",))])
    ('given', 'ghcr-pull')
    """
    try:
        before = pull_secrets(template)
    except InvalidManifest:  # a foreign kind's schema may let anything pass
        return ()
    wanted = [lack for lack in lacks if lack.secret not in before]
    given = () if before else (name for lack in wanted for name in lack.pod_secrets)
    return tuple(dict.fromkeys((*given, *(lack.secret for lack in wanted))))
