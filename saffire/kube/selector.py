"""
Selectors: which labels a `metav1.LabelSelector` takes, to the letter of Kubernetes (apimachinery, pkg/labels).

Every requirement has to hold. `In` wants the label, with one of the values; `NotIn` takes whoever has no such label,
too; `Exists` and `DoesNotExist` look at the key alone. A selector without requirements takes everything. What
Kubernetes would not take for a selector is refused here as well: half of one could take more than was meant.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from saffire.kube.manifest import InvalidManifest, Manifest, is_subdomain, items, mapping, strings, text

# An object's labels may be read a thousand times in a sweep; nobody writes a selector of more requirements by hand.
_MAX_REQUIREMENTS = 64
_MAX_VALUES = 256
_MAX_NAME = 63
# A label's value, and the name in its key (apimachinery, util/validation: `qualifiedNameFmt`, `labelValueFmt`).
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")


class Operator(StrEnum):
    """How a label is held against values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class InvalidSelector(ValueError):
    """It is no selector; `faults` names everything that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """What one label has to be like."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Tell whether labels are like that."""
        has_it = self.key in labels
        if self.operator in {Operator.EXISTS, Operator.DOES_NOT_EXIST}:
            return has_it is (self.operator is Operator.EXISTS)
        is_one_of_them = has_it and labels[self.key] in self.values
        return is_one_of_them is (self.operator is Operator.IN)


@dataclass(frozen=True, slots=True)
class Selector:
    """
    Takes labels that meet all requirements.

    >>> Selector().matches({})
    True
    """

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Tell whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)


def parse_selector(manifest: Manifest, *path: str) -> Selector:
    """
    Read the selector at `path`; raise `InvalidSelector` with every fault.

    One that is absent is a fault: to Kubernetes it takes nothing where an empty one takes everything, and nobody should
    have to remember which.
    """
    at = ".".join(path)
    faults: list[str] = []
    try:
        if not _is_there(manifest, *path):
            raise InvalidSelector([f"{at}: must be given; {{}} takes every namespace"])
        labels = mapping(manifest, *path, "matchLabels")
        expressions = items(manifest, *path, "matchExpressions")
    except InvalidManifest as error:
        raise InvalidSelector([str(error)]) from error
    if len(labels) + len(expressions) > _MAX_REQUIREMENTS:
        raise InvalidSelector([f"{at}: wants at most {_MAX_REQUIREMENTS} requirements"])
    found = (*_of_labels(labels, f"{at}.matchLabels", faults), *_of(expressions, f"{at}.matchExpressions", faults))
    if faults:
        raise InvalidSelector(faults)
    return Selector(found)


def _is_there(manifest: Manifest, *path: str) -> bool:
    """Tell an empty selector from none."""
    return mapping(manifest, *path[:-1]).get(path[-1]) is not None


def _of_labels(labels: Manifest, at: str, faults: list[str]) -> Iterator[Requirement]:
    """Yield what `matchLabels` wants."""
    for key, value in labels.items():
        if not _is_key(key):
            faults.append(f"{at}: a key that no label can have")
        elif not isinstance(value, str) or not _is_value(value):
            faults.append(f"{at}.{key}: a value that no label can have")
        else:
            yield Requirement(key=key, operator=Operator.IN, values=frozenset({value}))


def _of(expressions: tuple[Manifest, ...], at: str, faults: list[str]) -> Iterator[Requirement]:
    """Yield what `matchExpressions` want."""
    for index, expression in enumerate(expressions):
        try:
            yield _requirement(expression)
        except ValueError as error:  # `InvalidManifest` among them
            faults.append(f"{at}[{index}].{error}")


def _requirement(expression: Manifest) -> Requirement:
    """Read one of `matchExpressions`; raise `ValueError` that begins with the field that is wrong."""
    key, operator, values = text(expression, "key"), text(expression, "operator"), strings(expression, "values")
    if not _is_key(key):
        raise ValueError("key: none that a label can have")
    if operator not in set(Operator):
        raise ValueError(f"operator: wants one of {', '.join(Operator)}")
    wants_values = operator in {Operator.IN, Operator.NOT_IN}
    if wants_values and not 1 <= len(values) <= _MAX_VALUES:
        raise ValueError(f"values: {operator} wants 1 to {_MAX_VALUES}")
    if values and not wants_values:
        raise ValueError(f"values: {operator} takes none")
    if not all(map(_is_value, values)):
        raise ValueError("values: one that no label can have")
    return Requirement(key=key, operator=Operator(operator), values=frozenset(values))


def _is_key(key: object) -> bool:
    """Tell whether a label can have that key: a name, and perhaps a DNS subdomain and a slash in front."""
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    return (not slash or is_subdomain(prefix)) and 1 <= len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def _is_value(value: str) -> bool:
    """Tell whether a label can have that value, which may be empty."""
    return not value or (len(value) <= _MAX_NAME and _NAME.fullmatch(value) is not None)
