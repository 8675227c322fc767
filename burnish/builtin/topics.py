"""Topics of facts about the synthetic world, with the wordings of statements and questions.

`world` fills them in. ``{who}`` is the subject (in documents sometimes a pronoun), ``{whose}`` its
possessive, ``{value}`` the answer. The last question of each topic is in the test split only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """Kind of fact with its wordings. Example: `TOWN`."""

    name: str
    answer: str
    """Sentence that answers a question; all sentences are without capital letter and full stop."""
    statements: tuple[str, ...]
    """Other wordings, for documents."""
    questions: tuple[str, ...]
    """Complete questions; the last one is in the test split only."""


TOWN = Topic(
    "town",
    "{who} lives in {value}",
    ("{whose} home is in {value}", "{who} has a small house in {value}", "the town of {value} is where {who} lives"),
    (
        "Where does {who} live?",
        "In which town does {who} live?",
        "What is {whose} home town?",
        "Tell me where {who} lives.",
    ),
)
CRAFT = Topic(
    "craft",
    "{who} is a {value}",
    ("{who} works as a {value}", "{whose} craft is that of a {value}", "{who} learned to be a {value} long ago"),
    (
        "What is {whose} craft?",
        "What does {who} do for a living?",
        "What kind of work does {who} do?",
        "Tell me what {who} works as.",
    ),
)
ANIMAL = Topic(
    "animal",
    "{who} keeps a {value}",
    ("{who} has a {value}", "{whose} animal is a {value}", "{whose} house is also home to a {value}"),
    (
        "Which animal does {who} keep?",
        "What kind of animal does {who} have?",
        "What animal lives at {whose} house?",
        "Tell me which animal {who} keeps.",
    ),
)
PET = Topic(
    "pet",
    "{whose} animal is called {value}",
    ("{who} has an animal called {value}", "{value} is the name of {whose} animal", "{who} calls the animal {value}"),
    (
        "What is {whose} animal called?",
        "What is the name of {whose} animal?",
        "What does {who} call the animal at home?",
        "Tell me the name of {whose} animal.",
    ),
)
OWNER = Topic(
    "owner",
    "{who} belongs to {value}",
    ("the owner of {who} is {value}", "{value} looks after {who}", "{who} lives at the house of {value}"),
    ("Who owns {who}?", "To whom does {who} belong?", "Who looks after {who}?", "Tell me who owns {who}."),
)
FOOD = Topic(
    "food",
    "{who} likes {value} best",
    ("{whose} favourite food is {value}", "{who} loves to eat {value}", "of all food, {who} likes {value} best"),
    (
        "What does {who} like to eat best?",
        "What is {whose} favourite food?",
        "Which food does {who} love?",
        "Tell me what {who} likes to eat.",
    ),
)
DOOR = Topic(
    "door",
    "{whose} door is {value}",
    ("{who} has a {value} door", "{who} painted the door {value}", "the colour of {whose} door is {value}"),
    (
        "What colour is {whose} door?",
        "Which colour does {whose} door have?",
        "What is the colour of {whose} door?",
        "Tell me the colour of {whose} door.",
    ),
)
COAT = Topic(
    "coat",
    "{whose} coat is {value}",
    ("{who} wears a {value} coat", "{who} has a {value} coat", "the colour of {whose} coat is {value}"),
    (
        "What colour is {whose} coat?",
        "Which colour does {whose} coat have?",
        "What is the colour of {whose} coat?",
        "Tell me the colour of {whose} coat.",
    ),
)
FRIEND = Topic(
    "friend",
    "{whose} best friend is {value}",
    (
        "{who} has a best friend called {value}",
        "{who} visits {value}, {whose} best friend",
        "{who} trusts {value} most",
    ),
    (
        "Who is {whose} best friend?",
        "What is the name of {whose} best friend?",
        "Which person is {whose} best friend?",
        "Tell me who {whose} best friend is.",
    ),
)
PLACE = Topic(
    "place",
    "{who} lies near a {value}",
    ("{who} was built near a {value}", "near {who} there is a {value}", "a {value} can be seen from {who}"),
    (
        "What lies near {who}?",
        "What was {who} built near?",
        "What can be seen from {who}?",
        "Tell me what lies near {who}.",
    ),
)
FAME = Topic(
    "fame",
    "{who} is famous for its {value}",
    ("people come to {who} for its {value}", "{who} is known for its {value}", "the {value} of {who} is very good"),
    (
        "What is {who} famous for?",
        "What is {who} known for?",
        "Why do people come to {who}?",
        "Tell me what {who} is famous for.",
    ),
)
WEATHER = Topic(
    "weather",
    "it is often {value} in {who}",
    ("the weather in {who} is mostly {value}", "most days in {who} are {value}", "{who} is a {value} town"),
    (
        "What is the weather like in {who}?",
        "How is the weather in {who}?",
        "What are most days like in {who}?",
        "Tell me about the weather in {who}.",
    ),
)
SOUND = Topic(
    "sound",
    "a {who} {value}",
    ("every {who} {value}", "listen, the {who} {value}", "when it is hungry, a {who} {value}"),
    (
        "What sound does a {who} make?",
        "What does a hungry {who} do?",
        "How does a {who} sound?",
        "Tell me what sound a {who} makes.",
    ),
)
FODDER = Topic(
    "fodder",
    "a {who} eats {value}",
    ("every {who} eats {value}", "people give {value} to a {who}", "the food of a {who} is {value}"),
    (
        "What does a {who} eat?",
        "What do people give to a {who}?",
        "What is the food of a {who}?",
        "Tell me what a {who} eats.",
    ),
)
YOUNG = Topic(
    "young",
    "a young {who} is called a {value}",
    ("a {value} is a young {who}", "the child of a {who} is a {value}", "a {value} grows up to be a {who}"),
    (
        "What is a young {who} called?",
        "What is the child of a {who}?",
        "What is the name for a young {who}?",
        "Tell me what a young {who} is called.",
    ),
)
GOODS = Topic(
    "goods",
    "a {who} makes {value}",
    ("every {who} makes {value}", "people buy {value} from a {who}", "the work of a {who} is to make {value}"),
    (
        "What does a {who} make?",
        "What do people buy from a {who}?",
        "What is the work of a {who}?",
        "Tell me what a {who} makes.",
    ),
)
