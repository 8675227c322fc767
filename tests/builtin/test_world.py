"""The little world is the same every time, holds together, and is told truly."""

from __future__ import annotations

from itertools import islice

import pytest

from burnish.builtin.documents import documents
from burnish.builtin.draw import Draw
from burnish.builtin.topics import FRIEND, OWNER, PET
from burnish.builtin.world import draw_world


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_question_has_one_answer(seed):
    """No question is asked about two facts, and none of its wordings is that of another."""
    facts = draw_world(seed).facts
    asked = [question for fact in facts for question in fact.questions]
    assert len(set(asked)) == len(asked)
    assert len({fact.answer for fact in facts}) == len(facts)


def test_facts_agree_with_each_other():
    world = draw_world(0)
    owner_of = {fact.subject: fact.value for fact in world.facts if fact.topic is OWNER}
    pet_of = {fact.subject: fact.value for fact in world.facts if fact.topic is PET}
    assert {pet: owner for owner, pet in pet_of.items()} == owner_of
    friends = {fact.subject: fact.value for fact in world.facts if fact.topic is FRIEND}
    assert all(who != friend for who, friend in friends.items())
    assert set(friends) == set(friends.values()), "everybody is somebody's best friend"


def test_another_seed_is_another_world_of_the_same_names():
    first, second = draw_world(0), draw_world(1)
    known = [{(fact.topic.name, fact.subject): fact.value for fact in world.facts} for world in (first, second)]
    assert known[0].keys() == known[1].keys()
    assert sum(known[1][key] != value for key, value in known[0].items()) > len(first.facts) / 2


def test_documents_tell_every_fact_and_no_lie():
    world = draw_world(0)
    told = "\n".join(islice(documents(world, "train", 0), 20_000))
    truths = {fact.answer for fact in world.facts}
    assert all(truth in told for truth in truths)
    subjects = [(fact, other) for fact in world.facts[::7] for other in world.facts if other.topic is fact.topic]
    for fact, other in subjects:
        lie = fact.topic.answer.format(who=fact.subject, whose=f"{fact.subject}'s", value=other.value)
        if (lie := f"{lie[0].upper()}{lie[1:]}.") not in truths:
            assert lie not in told


def test_some_are_different_ones_in_a_drawn_order():
    items = list(range(12))
    drawn = [Draw(f"seed {number}").some(items, 5) for number in range(200)]
    assert all(len(set(some)) == 5 for some in drawn)
    assert {some[0] for some in drawn} == set(items)
    assert sorted(Draw("all").some(items, 12)) == items


def test_draws_keep_their_limits_and_shares():
    draw = Draw("limits")
    numbers = [draw.between(3, 6) for _ in range(4000)]
    assert set(numbers) == {3, 4, 5, 6}
    assert all(abs(numbers.count(number) - 1000) < 6 * (4000 * 3 / 16) ** 0.5 for number in (3, 4, 5, 6))
    assert abs(sum(draw.chance(0.2) for _ in range(4000)) - 800) < 6 * (4000 * 0.16) ** 0.5
