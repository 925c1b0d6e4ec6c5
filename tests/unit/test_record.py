"""Records: immutable, slotted, compared by value."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from pycontain.lean.record import Record


class Point(Record):
    x: int
    y: int = 0


class Named(Point):
    UNIT = "mm"
    name: str
    y: int = 5

    def label(self) -> str:
        return f"{self.name} at {self.x}{self.UNIT}"


def test_fields_of_a_record_are_given_by_name_or_take_their_default() -> None:
    assert (Point(x=1).x, Point(x=1).y, Point(x=1, y=2).y) == (1, 0, 2)


def test_a_missing_field_of_a_record_is_named() -> None:
    with pytest.raises(TypeError, match="Point needs 'x'"):
        Point(y=1)


def test_an_unknown_field_of_a_record_is_named() -> None:
    with pytest.raises(TypeError, match="Point has no z"):
        Point(x=1, z=2)


def test_fields_cannot_be_given_by_position() -> None:
    with pytest.raises(TypeError):
        Point(1)


def test_a_record_is_read_only() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match=r"Point is read-only: use replace\(\) to set x"):
        point.x = 2
    with pytest.raises(AttributeError, match="read-only"):
        point.z = 2
    assert point.x == 1


def test_records_are_compared_by_value_and_by_class() -> None:
    class Twin(Record):
        x: int
        y: int = 0

    assert Point(x=1) == Point(x=1, y=0)
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Twin(x=1)
    assert Point(x=1) != (1, 0)


def test_equal_records_are_the_same_key() -> None:
    assert {Point(x=1), Point(x=1, y=0), Point(x=2)} == {Point(x=1), Point(x=2)}


def test_a_record_with_a_list_is_not_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(x=[]))


def test_fields_come_in_the_order_they_are_declared() -> None:
    assert Named(name="a", y=1, x=2).fields() == {"x": 2, "y": 1, "name": "a"}
    assert list(Named(name="a", x=2).fields()) == ["x", "y", "name"]


def test_a_subclass_adds_fields_and_changes_defaults() -> None:
    named = Named(x=1, name="a")
    assert named.y == 5
    assert named.label() == "a at 1mm"
    assert Point(x=1).y == 0


def test_a_class_constant_is_not_a_field() -> None:
    assert "UNIT" not in Named.FIELDS
    with pytest.raises(TypeError, match="has no UNIT"):
        Named(x=1, name="a", UNIT="cm")


def test_replace_does_not_change_the_original_record() -> None:
    first = Named(x=1, name="a")
    second = first.replace(x=2)
    assert type(second) is Named
    assert (first.x, second.x, second.name) == (1, 2, "a")
    with pytest.raises(TypeError, match="has no z"):
        first.replace(z=1)


def test_the_repr_evaluates_to_an_equal_record() -> None:
    assert repr(Point(x=1, y=2)) == "Point(x=1, y=2)"
    assert eval(repr(Named(x=1, name="a"))) == Named(x=1, name="a")


def test_the_base_record_has_no_fields() -> None:
    assert Record() == Record()
    assert Record().fields() == {}


def test_records_do_not_import_the_typing_module() -> None:
    program = "import sys, pycontain.spec.records; sys.exit('typing' in sys.modules)"
    subprocess.run([sys.executable, "-S", "-c", program], check=True)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_record_can_be_pickled(protocol: int) -> None:
    made = Named(x=1, name="a")
    again = pickle.loads(pickle.dumps(made, protocol))
    assert (type(again), again, again.label()) == (Named, made, "a at 1mm")


def test_a_record_can_be_copied() -> None:
    made = Named(x=1, name="a")
    assert copy.copy(made) == made
    inner = Point(x=[1, 2])
    deep = copy.deepcopy(inner)
    assert deep == inner
    assert deep.x is not inner.x
