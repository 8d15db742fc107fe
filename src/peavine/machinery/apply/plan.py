"""How a type is walked: each `Type` boiled down, once, to what comparing and merging ask of it."""

from __future__ import annotations

from typing import Any

from peavine.machinery.apply.fieldset import key_element, value_element
from peavine.machinery.schema import Type

# Modes. A leaf is owned as a whole: scalars, atomic lists, atomic maps.
LEAF, STRUCT, MAP, SET, KEYED, DEDUCED = range(6)

_OBJECT_LIKE = {"object", "map"}


class Plan:
    """One type's way of being walked. `mode` says which of the other fields count.

    STRUCT and MAP: `children[name]` is the pair of path element and plan of a member. SET and KEYED: `item` is the
    element's plan, and KEYED items are told apart by `keys`, with `defaults` where an item lacks one. DEDUCED: the
    value itself says (objects are maps of deduced values, all else is a leaf).
    """

    __slots__ = ("children", "closed", "defaults", "item", "keys", "leaf_shape", "mode", "scalar")

    def __init__(self, mode: int, leaf_shape: str = "", scalar: str = "") -> None:
        self.mode = mode
        self.leaf_shape, self.scalar = leaf_shape, scalar  # what a leaf holds: list, map, or a scalar of that kind
        self.children: Any = None
        self.item: Plan = self
        self.keys: tuple[str, ...] = ()
        self.defaults: dict[str, Any] = {}
        self.closed = False  # STRUCT: a name that is no field is an error

    def element_of(self, item: Any) -> str:
        """The path element of a SET's or KEYED list's item. Raises ValueError when the item has none."""
        if self.mode == SET:
            if isinstance(item, (dict, list)):
                raise ValueError("associative list without keys has an element that's a map type")
            return value_element(item)
        if not isinstance(item, dict):
            raise ValueError("associative list with keys has an element that's not a map type")
        found = {}
        for key in self.keys:
            value = item.get(key)
            if value is None:
                value = self.defaults.get(key)
                if value is None and key not in item:
                    continue
            found[key] = value
        if not found:
            listed = " ".join(f'"{key}"' for key in self.keys)
            raise ValueError(
                f"associative list with keys has an element that omits all key fields [{listed}]"
                " (and doesn't have default values for any key fields)"
            )
        return key_element(found)


class _Fields(dict[str, tuple[str, Plan]]):
    """Members of a struct, planned when first met; a name that is no field is deduced and not kept."""

    def __init__(self, type: Type) -> None:
        super().__init__()
        self._type = type

    def __missing__(self, name: str) -> tuple[str, Plan]:
        field = self._type.fields.get(name)
        if field is None:
            return ("f:" + name, DEDUCED_PLAN)
        found = self[name] = ("f:" + name, plan_of(field.type))
        return found

    def declared(self, name: str) -> bool:
        return name in self or name in self._type.fields


class _Members:
    """Members of a map: any name, one plan."""

    __slots__ = ("_type", "item")

    def __init__(self, type: Type | None) -> None:
        self._type = type
        self.item: Plan | None = None

    def __getitem__(self, name: str) -> tuple[str, Plan]:
        if self.item is None:
            self.item = plan_of(self._type)
        return ("f:" + name, self.item)

    def declared(self, name: str) -> bool:
        return False


LIST_LEAF = Plan(LEAF, "list")
MAP_LEAF = Plan(LEAF, "map")
DEDUCED_PLAN = Plan(DEDUCED)
DEDUCED_MAP = Plan(MAP)
_members = _Members(None)
_members.item = DEDUCED_PLAN
DEDUCED_MAP.children = _members
_SCALAR_LEAVES: dict[str, Plan] = {}


def plan_of(type: Type | None) -> Plan:
    """The plan of a type, made once and kept with it. None is walked by what the values are."""
    if type is None or type.kind == "any":
        return DEDUCED_PLAN
    plan = type.__dict__.get("_apply_plan")
    if plan is None:
        plan = type.__dict__["_apply_plan"] = _make(type)
    return plan


def _make(type: Type) -> Plan:
    if type.kind in _OBJECT_LIKE:
        if type.map_type == "atomic":
            return MAP_LEAF
        if type.kind == "map":
            plan = Plan(MAP)
            plan.children = _Members(type.items)
            return plan
        if not type.fields and type.preserve_unknown:
            return DEDUCED_PLAN
        plan = Plan(STRUCT)
        plan.children = _Fields(type)
        plan.closed = not type.preserve_unknown
        return plan
    if type.kind == "list":
        if type.list_type == "set":
            plan = Plan(SET)
            plan.item = plan_of(type.items)
            return plan
        if type.list_type == "map" and type.items is not None:
            plan = Plan(KEYED)
            plan.keys = tuple(sorted(type.list_map_keys))
            fields = type.items.fields
            plan.defaults = {k: _default(fields.get(k)) for k in plan.keys if _default(fields.get(k)) is not None}
            # Planned through the element's own type, which may be this list's owner: types can be cyclic.
            plan.item = plan_of(type.items)
            return plan
        return LIST_LEAF
    return _SCALAR_LEAVES.setdefault(type.kind, Plan(LEAF, "scalar", type.kind))


def _default(field: Any) -> Any:
    if field is None:
        return None
    return field.default if field.default is not None else field.type.default


def deduce(value: Any) -> Plan:
    """The plan of a value whose type is unknown."""
    if isinstance(value, dict):
        return DEDUCED_MAP
    return LIST_LEAF if isinstance(value, list) else SCALAR_LEAF


SCALAR_LEAF = Plan(LEAF, "scalar", "any")
