"""Plain-text documents about the synthetic world, the training data of the built-in base model.

Every fact is stated in many wordings; questions of test splits do not occur. `documents` is the data set
``builtin:documents``; `dialogues` are only in the corpus of the built-in model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from burnish.builtin.arithmetic import Problem, ask, draw_problem, tale
from burnish.builtin.draw import Draw, bucket
from burnish.builtin.exercises import draw_exercise
from burnish.builtin.questions import Split
from burnish.builtin.world import ANIMALS, FAMES, GOODS, Fact, Person, World


def documents(world: World, split: Split, seed: int) -> Iterator[str]:
    """Endless documents: profiles, stories, conversations, arithmetic, exercises. No text is in both splits."""
    draw = Draw(f"documents {split} {seed}")
    while True:
        text = draw.choice(_KINDS)(draw, world)
        if (bucket(text) == 0) == (split == "test"):
            yield text


def dialogues(world: World, seed: int) -> Iterator[str]:
    """Endless dialogues in which one person asks for a result or a format, and another one answers."""
    draw = Draw(f"lessons {seed}")  # the text of the seed is part of the identity of the corpus
    while True:
        first, second = draw.some(world.people, 2)
        lines = []
        for _ in range(draw.between(1, 3)):
            if draw.chance(0.6):
                question, answer = ask(draw, draw_problem(draw, "train"), world)
            else:
                exercise = draw_exercise(draw, world, held_out=False)
                question, answer = exercise.question, exercise.result
            lines += [f"{first.name}: {question}", f"{second.name}: {answer}"]
        yield "\n".join(lines)


def _profile(draw: Draw, world: World) -> str:
    """Facts about one person in a drawn order."""
    person = draw.choice(world.people)
    facts = draw.some(tuple(person.facts()), draw.between(3, 8))
    sentences = [_stated(draw, facts[0])]
    for fact in facts[1:]:
        by_name = draw.chance(0.3)
        sentences.append(_stated(draw, fact) if by_name else _stated(draw, fact, person))
    return " ".join(sentences)


def _gazette(draw: Draw, world: World) -> str:
    """Facts about a town and some of its people."""
    town = draw.choice(world.towns)
    facts = tuple(town.facts())
    sentences = [_stated(draw, fact) for fact in draw.some(facts, draw.between(1, len(facts)))]
    for person in [person for person in world.people if person.town == town.name]:
        if draw.chance(0.5):
            sentences += [_stated(draw, fact) for fact in draw.some(tuple(person.facts()), 2)]
    return " ".join(sentences)


def _almanac(draw: Draw, world: World) -> str:
    """A few facts of all kinds."""
    return " ".join(_stated(draw, draw.choice(world.facts)) for _ in range(draw.between(2, 6)))


def _conversation(draw: Draw, world: World) -> str:
    """Two people who ask each other questions of the train split."""
    first, second = draw.some(world.people, 2)
    lines = []
    for _ in range(draw.between(1, 3)):
        while (fact := draw.choice(world.facts)).is_held_out:
            pass
        lines.append(f'"{draw.choice(fact.questions[:-1])}" asked {first.name}. "{fact.answer}" said {second.name}.')
        first, second = second, first
    return "\n".join(lines)


def _story(draw: Draw, world: World) -> str:
    """Story of two to five sentences, consistent with the facts of the world."""
    person = draw.choice(world.people)
    town, friend = world.town_of(person), world.person(person.friend)
    sound, fodder, young = ANIMALS[person.animal]
    who, whose = person.who, person.whose
    openings = (
        f"One {town.weather} morning {person.name} the {person.craft} opened the {person.door} door.",
        f"{person.name} took {whose} {person.coat} coat and walked through {town.name}.",
        f"On market day {person.name} went to the {town.place} near {town.name}.",
        f"It was a {town.weather} day in {town.name}, and {person.name} made {GOODS[person.craft]}.",
        f"{person.name} and {person.pet} the {person.animal} lived in {town.name}.",
    )
    middles = (
        f"{who.capitalize()} called {person.pet}, and the {person.animal} came at once.",
        f"A {person.animal} {sound} when it is hungry, so {who} gave {person.pet} some {fodder}.",
        f"There {who} met {friend.name}, {whose} best friend, the {friend.craft} from {friend.town}.",
        f"{friend.name} came in a {friend.coat} coat and brought {friend.food}.",
        f"{who.capitalize()} was hungry and ate {person.food}, which {who} likes best.",
        f"The {town.fame} of {town.name} were on every table, for the town is famous for them.",
        f"{person.pet} had found a {young} near the {town.place}.",
        f"{friend.name} wanted to buy {GOODS[person.craft]}, and {person.name} the {person.craft} had some.",
    )
    endings = (
        f"In the evening {who} went home to the {person.door} door.",
        f"Then {person.name} and {person.pet} went home.",
        f"{friend.name} said goodbye and walked back to {friend.town}.",
        "It was a good day.",
    )
    middle = draw.some(middles, draw.between(1, 3))
    ending = [draw.choice(endings)] if draw.chance(0.8) else []
    return " ".join([draw.choice(openings), *middle, *ending])


def _sums(draw: Draw, world: World) -> str:
    """Several arithmetic problems with results."""
    lines = []
    for _ in range(draw.between(4, 10)):
        problem = draw_problem(draw, "train")
        lines.append(_solved(draw, problem))
    return "\n".join(lines)


def _solved(draw: Draw, problem: Problem) -> str:
    if draw.chance(0.7):
        return f"{problem} = {problem.result}"
    return f"{problem.in_words().capitalize()} is {problem.result}."


def _counting(draw: Draw, world: World) -> str:
    """Word problem with its result."""
    person, thing = draw.choice(world.people), draw.choice(FAMES)
    while (problem := draw_problem(draw, "train")).sign == "*":
        pass
    return f"{tale(problem, person, thing)} Now {person.name} has {problem.result} {thing}."


def _exercise(draw: Draw, world: World) -> str:
    """Lists, JSON, capital letters, and counted words."""
    lines = []
    for _ in range(draw.between(1, 3)):
        exercise = draw_exercise(draw, world, held_out=False)
        separator = "\n" if exercise.statement.endswith(":") else " "
        lines.append(f"{exercise.statement}{separator}{exercise.result}")
    return "\n".join(lines)


def _stated(draw: Draw, fact: Fact, person: Person | None = None) -> str:
    """Sentence that states a fact; with `person`, by pronouns."""
    wording = draw.choice((fact.topic.answer, fact.topic.answer, *fact.topic.statements))
    return fact.say(wording) if person is None else fact.say(wording, person.who, person.whose)


_KINDS: tuple[Callable[[Draw, World], str], ...] = (
    *(_profile, _profile, _almanac, _almanac, _gazette, _conversation, _conversation, _story, _story),
    *(_sums, _sums, _sums, _sums, _counting, _counting, _exercise, _exercise),
)
"""Kinds of documents, each as likely as it is frequent here."""
