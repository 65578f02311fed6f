"""
Selectors: which labels a `metav1.LabelSelector` selects, exactly as in Kubernetes (apimachinery, pkg/labels).

A selector selects an object if the object's labels meet every requirement of the selector. `In` demands that the object
has the label with one of the values. `NotIn` also selects objects without the label. `Exists` and `DoesNotExist`
compare only the key of the label. A selector without requirements selects everything. If Kubernetes would refuse a
selector, this module refuses it too, since half of the requirements could select more than the author meant.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from saffire.kube.manifest import InvalidManifest, Manifest, is_subdomain, items, mapping, strings, text

# A sweep may match a selector a thousand times. Nobody writes more requirements than these by hand.
_MAX_REQUIREMENTS = 64
_MAX_VALUES = 256
_MAX_NAME = 63
# A label's value, and the name in its key (apimachinery, util/validation: `qualifiedNameFmt`, `labelValueFmt`).
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")


class Operator(StrEnum):
    """How a requirement of a selector compares a label with the requirement's values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class InvalidSelector(ValueError):
    """
    The manifest is not a valid selector.

    `faults` has one text for each fault, which starts with the path of the wrong field.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """One condition of a selector: the key of a label, an operator, and for `In` and `NotIn` some values."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Tell whether an object with these labels meets the requirement."""
        has_key = self.key in labels
        if self.operator in {Operator.EXISTS, Operator.DOES_NOT_EXIST}:
            return has_key is (self.operator is Operator.EXISTS)
        has_value = has_key and labels[self.key] in self.values
        return has_value is (self.operator is Operator.IN)


@dataclass(frozen=True, slots=True)
class Selector:
    """
    Selects the objects whose labels meet all requirements; without requirements, every object.

    >>> Selector().matches({})
    True
    """

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Tell whether the selector selects an object with these labels."""
        return all(requirement.matches(labels) for requirement in self.requirements)


def parse_selector(manifest: Manifest, *path: str) -> Selector:
    """
    Read the selector at `path`; raise `InvalidSelector` with every fault.

    An absent selector is a fault. In Kubernetes, an absent selector selects nothing and an empty selector selects
    everything, and nobody should have to remember that.
    """
    at = ".".join(path)
    faults: list[str] = []
    try:
        if not _is_present(manifest, *path):
            raise InvalidSelector([f"{at}: must be given; {{}} takes every namespace"])
        labels = mapping(manifest, *path, "matchLabels")
        expressions = items(manifest, *path, "matchExpressions")
    except InvalidManifest as error:
        raise InvalidSelector([str(error)]) from error
    if len(labels) + len(expressions) > _MAX_REQUIREMENTS:
        raise InvalidSelector([f"{at}: wants at most {_MAX_REQUIREMENTS} requirements"])
    requirements = (
        *_label_requirements(labels, f"{at}.matchLabels", faults),
        *_expression_requirements(expressions, f"{at}.matchExpressions", faults),
    )
    if faults:
        raise InvalidSelector(faults)
    return Selector(requirements)


def _is_present(manifest: Manifest, *path: str) -> bool:
    """Tell whether the manifest has a selector at `path`; an empty selector counts."""
    return mapping(manifest, *path[:-1]).get(path[-1]) is not None


def _label_requirements(labels: Manifest, at: str, faults: list[str]) -> Iterator[Requirement]:
    """Yield the valid requirements of `matchLabels`; for each other one, add a fault to `faults`."""
    for key, value in labels.items():
        if not _is_key(key):
            faults.append(f"{at}: a key that no label can have")
        elif not isinstance(value, str) or not _is_value(value):
            faults.append(f"{at}.{key}: a value that no label can have")
        else:
            yield Requirement(key=key, operator=Operator.IN, values=frozenset({value}))


def _expression_requirements(expressions: tuple[Manifest, ...], at: str, faults: list[str]) -> Iterator[Requirement]:
    """Yield the valid requirements of `matchExpressions`; for each other one, add a fault to `faults`."""
    for index, expression in enumerate(expressions):
        try:
            yield _requirement(expression)
        except ValueError as error:  # or its subclass `InvalidManifest`
            faults.append(f"{at}[{index}].{error}")


def _requirement(expression: Manifest) -> Requirement:
    """Read one item of `matchExpressions`; raise `ValueError`, which starts with the field's name, if it is wrong."""
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
    """Tell whether a label can have this key: a name, with an optional DNS subdomain and a slash before it."""
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    return (not slash or is_subdomain(prefix)) and 1 <= len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def _is_value(value: str) -> bool:
    """Tell whether a label can have this value, which may be empty."""
    return not value or (len(value) <= _MAX_NAME and _NAME.fullmatch(value) is not None)
