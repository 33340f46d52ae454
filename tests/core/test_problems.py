"""Tests of problems with their places."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from dosimeter.core.errors import InputError
from dosimeter.core.problems import Problem, SettingsError, nearest, validation_problems, written


class Cat(BaseModel, extra="forbid"):
    kind: Literal["cat"] = "cat"
    lives: int = Field(9, ge=1)


class Dog(BaseModel, extra="forbid"):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class House(BaseModel, extra="forbid"):
    pets: list[Pet]


def said(annotation, value) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(annotation).validate_python(value)
    return [str(problem) for problem in validation_problems(caught.value, annotation, value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, ["pets: is missing"]),
        ({"pets": [], "pet": 1}, ["pet: unknown key; did you mean 'pets'?"]),
        ({"pets": [{"lives": 1}]}, ["pets[0].kind: is missing; known are cat, dog"]),
        ({"pets": [{"kind": "cut"}]}, ["pets[0].kind: 'cut' is not known; did you mean 'cat'?"]),
        ({"pets": [{"kind": "dog"}]}, ["pets[0].tricks: is missing"]),
        ({"pets": [{"kind": "cat", "trick": 1}]}, ["pets[0].trick: unknown key; known are kind, lives"]),
        ({"pets": [{"kind": "cat", "lives": 0}]}, ["pets[0].lives: should be greater than or equal to 1"]),
        (
            {"pets": [{"kind": "cat", "lives": "x"}, {"kind": "dog", "tricks": [3]}]},
            [
                "pets[0].lives: should be a valid integer, unable to parse string as an integer",
                "pets[1].tricks[0]: should be a valid string",
            ],
        ),
    ],
)
def test_what_a_model_refuses_is_said_in_the_users_words(value, expected):
    assert said(House, value) == expected


def test_a_union_at_the_top():
    assert said(Pet, {}) == ["kind: is missing; known are cat, dog"]
    assert said(Pet, {"kind": "dog", "trick": []}) == [
        "tricks: is missing",
        "trick: unknown key; did you mean 'tricks'?",
    ]


def test_places_are_written_as_people_do():
    assert written(("attacks", 0, "x-y", "copies")) == "attacks[0].x-y.copies"
    assert str(Problem((), "is empty")) == "is empty"
    assert str(Problem(("a", 1), "is empty", "of Anna")) == "a[1] (of Anna): is empty"


def test_what_is_wrong_with_several_items_is_said_once():
    error = SettingsError(
        [
            *(Problem(("pets", n), "there is no file x", f"pet {n}") for n in range(4)),
            Problem(("pets", 4), "there is no file y"),
            *(Problem(("house", n), "there is no file x") for n in range(2)),
        ],
        of="farm",
    )
    assert isinstance(error, InputError)
    assert str(error) == (
        "farm: pets[0] (pet 0 and 3 more): there is no file x; pets[4]: there is no file y; "
        "house[0] (and 1 more): there is no file x"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("copis", "did you mean 'copies'?"),
        ("copy", "did you mean 'copies'?"),
        ("zebra", "known are copies, decoys"),
        (3, "known are copies, decoys"),
    ],
)
def test_the_nearest_name_shares_its_beginning_where_several_are_as_near(name, expected):
    assert nearest(name, ["copies", "decoys"]) == expected


def test_no_names_at_all():
    assert nearest("x", []) == "none are known"
