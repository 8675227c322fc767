"""Synthetic world, drawn from a seed: people, towns, animals and crafts, and all facts about them.

All built-in data sets are generated from it. A question about a fact has exactly one right answer. The built-in model
is trained on the world of seed 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from burnish.builtin import topics
from burnish.builtin.draw import Draw, bucket
from burnish.builtin.topics import Topic

WOMEN = (
    *("Ada", "Bela", "Cora", "Dina", "Edda", "Fara", "Gwen", "Hilda", "Irma", "Jola"),
    *("Kira", "Lotta", "Mara", "Nora", "Olga", "Petra", "Runa", "Sela", "Tilda", "Vera"),
)
MEN = (
    *("Alban", "Boris", "Cyril", "Dorian", "Emil", "Felix", "Gregor", "Hugo", "Ivan", "Joris"),
    *("Kasper", "Linus", "Milo", "Nils", "Oscar", "Pavel", "Rufus", "Silas", "Tomas", "Victor"),
)
PETS = (
    *("Acorn", "Biscuit", "Button", "Cloud", "Clover", "Comet", "Cricket", "Daisy", "Dusty", "Ember"),
    *("Fern", "Flint", "Ginger", "Hazel", "Holly", "Ivy", "Jasper", "Juniper", "Kettle", "Lantern"),
    *("Maple", "Merry", "Mitten", "Moss", "Nettle", "Nutmeg", "Olive", "Pebble", "Pepper", "Pickle"),
    *("Poppy", "Pumpkin", "Quill", "Raven", "Rusty", "Saffron", "Shadow", "Sparrow", "Thistle", "Willow"),
)
TOWNS = (
    *("Amberley", "Copperdale", "Fernhollow", "Highmere", "Larkmoor", "Marshend"),
    *("Oatfield", "Pinegate", "Rookstead", "Saltby", "Stonewick", "Willowford"),
)
GOODS = {
    "baker": "bread",
    "potter": "bowls",
    "weaver": "cloth",
    "smith": "nails",
    "carpenter": "tables",
    "painter": "pictures",
    "cooper": "barrels",
    "tailor": "shirts",
    "miller": "flour",
    "cobbler": "shoes",
    "printer": "books",
    "thatcher": "roofs",
}
"""Craft -> its product."""
ANIMALS = {
    "cat": ("mews", "fish", "kitten"),
    "dog": ("barks", "bones", "puppy"),
    "goat": ("bleats", "leaves", "kid"),
    "hen": ("clucks", "grain", "chick"),
    "horse": ("neighs", "hay", "foal"),
    "duck": ("quacks", "weeds", "duckling"),
    "cow": ("moos", "grass", "calf"),
    "donkey": ("brays", "thistles", "colt"),
    "pig": ("grunts", "turnips", "piglet"),
    "goose": ("honks", "clover", "gosling"),
}
"""Animal -> sound, food, young."""
FOODS = (
    *("plum cake", "onion soup", "honey bread", "apple pie", "bean stew", "fish pie"),
    *("carrot soup", "cheese toast", "berry jam", "corn bread", "nut cake", "leek pie"),
)
COLOURS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey")
PLACES = ("river", "lake", "hill", "forest", "bridge", "tower")
FAMES = (
    *("apples", "bells", "cherries", "lamps", "pears", "ribbons"),
    *("kites", "boats", "roses", "clocks", "drums", "candles"),
)
WEATHERS = ("windy", "rainy", "foggy", "sunny", "snowy", "stormy")


@dataclass(frozen=True, slots=True)
class Fact:
    """Fact of the world. Example: ``Fact(TOWN, "Mara", "Saltby").answer == "Mara lives in Saltby."``."""

    topic: Topic
    subject: str
    value: str

    @property
    def answer(self) -> str:
        """Sentence that answers every question about the fact."""
        return self.say(self.topic.answer)

    @property
    def questions(self) -> tuple[str, ...]:
        """Questions for the fact; the last one is in the test split only."""
        return tuple(self._fill(question, self.subject, f"{self.subject}'s") for question in self.topic.questions)

    @property
    def is_held_out(self) -> bool:
        """Whether it is asked in the test split only: a fifth of all facts. Documents state all facts."""
        return bucket(f"{self.topic.name} of {self.subject}") < 2

    def say(self, wording: str, who: str | None = None, whose: str | None = None) -> str:
        """Sentence about the subject, or with pronouns in its place."""
        sentence = self._fill(wording, who or self.subject, whose or f"{self.subject}'s")
        return f"{sentence[0].upper()}{sentence[1:]}."

    def _fill(self, wording: str, who: str, whose: str) -> str:
        return wording.format(who=who, whose=whose, value=self.value)


@dataclass(frozen=True, slots=True)
class Person:
    """Person with attributes, which others may share except the name and the name of the animal."""

    name: str
    is_woman: bool
    town: str
    craft: str
    animal: str
    pet: str
    food: str
    door: str
    coat: str
    friend: str

    @property
    def who(self) -> str:
        """Pronoun."""
        return "she" if self.is_woman else "he"

    @property
    def whose(self) -> str:
        """Possessive pronoun."""
        return "her" if self.is_woman else "his"

    def facts(self) -> Iterator[Fact]:
        """Facts about the person."""
        yield Fact(topics.TOWN, self.name, self.town)
        yield Fact(topics.CRAFT, self.name, self.craft)
        yield Fact(topics.ANIMAL, self.name, self.animal)
        yield Fact(topics.PET, self.name, self.pet)
        yield Fact(topics.FOOD, self.name, self.food)
        yield Fact(topics.DOOR, self.name, self.door)
        yield Fact(topics.COAT, self.name, self.coat)
        yield Fact(topics.FRIEND, self.name, self.friend)


@dataclass(frozen=True, slots=True)
class Town:
    """Town with attributes."""

    name: str
    place: str
    fame: str
    weather: str

    def facts(self) -> Iterator[Fact]:
        """Facts about the town."""
        yield Fact(topics.PLACE, self.name, self.place)
        yield Fact(topics.FAME, self.name, self.fame)
        yield Fact(topics.WEATHER, self.name, self.weather)


@dataclass(frozen=True)
class World:
    """World with all facts. Example: ``draw_world(0).people[0].town``."""

    people: tuple[Person, ...]
    towns: tuple[Town, ...]
    facts: tuple[Fact, ...] = field(init=False)
    """Every fact, in a fixed order."""

    def __post_init__(self) -> None:
        facts = [fact for person in self.people for fact in person.facts()]
        facts += [Fact(topics.OWNER, person.pet, person.name) for person in self.people]
        facts += [fact for town in self.towns for fact in town.facts()]
        for animal, (sound, fodder, young) in ANIMALS.items():
            facts += [Fact(topics.SOUND, animal, sound), Fact(topics.FODDER, animal, fodder)]
            facts.append(Fact(topics.YOUNG, animal, young))
        facts += [Fact(topics.GOODS, craft, goods) for craft, goods in GOODS.items()]
        object.__setattr__(self, "facts", tuple(facts))

    def town_of(self, person: Person) -> Town:
        """Town in which a person lives."""
        return next(town for town in self.towns if town.name == person.town)

    def person(self, name: str) -> Person:
        """Person with this name."""
        return next(person for person in self.people if person.name == name)


@cache
def draw_world(seed: int = 0) -> World:
    """World of a seed: all worlds have the same names, and different facts about people and towns."""
    draw = Draw(f"little world {seed}")
    names = [(name, True) for name in WOMEN] + [(name, False) for name in MEN]
    pets = draw.some(PETS, len(PETS))
    friends = draw.some([name for name, _ in names], len(names))
    next_in_circle = dict(zip(friends, friends[1:] + friends[:1], strict=True))
    people = tuple(
        Person(
            name=name,
            is_woman=is_woman,
            town=draw.choice(TOWNS),
            craft=draw.choice(tuple(GOODS)),
            animal=draw.choice(tuple(ANIMALS)),
            pet=pets[index],
            food=draw.choice(FOODS),
            door=draw.choice(COLOURS),
            coat=draw.choice(COLOURS),
            friend=next_in_circle[name],
        )
        for index, (name, is_woman) in enumerate(names)
    )
    fames = draw.some(FAMES, len(FAMES))
    towns = tuple(
        Town(name, draw.choice(PLACES), fames[index], draw.choice(WEATHERS)) for index, name in enumerate(TOWNS)
    )
    return World(people, towns)
