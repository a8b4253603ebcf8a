"""A small Russian-English grammar: pairs of sentences that are right in both languages, made rather than collected.

Case follows from the role (кот, у кота, коту, кота, с котом, о саде but в саду), agreement from the noun, the article
from the word order: what a Russian sentence opens with is known (the), what stands after the verb is new (a):

    Кот спит на ковре    The cat is sleeping on a carpet
    На ковре спит кот    A cat is sleeping on the carpet

So every Russian sentence has one English one here, and a perfect translator would reach a BLEU of 100.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from kotya.demo.lexicon import (
    ADJECTIVES,
    DETERMINERS,
    GOALS,
    NOUN,
    NOUNS,
    PLACES,
    VERBS,
    Adjective,
    Case,
    Noun,
    Place,
    Verb,
    agree,
)


class Pair(NamedTuple):
    """A phrase or a sentence in both languages."""

    russian: str
    english: str


@dataclass(frozen=True)
class Subject:
    """Who acts: the phrase, what the verb agrees with, and the noun it stands for."""

    phrase: Pair
    past: str  # m, f, n or plural
    present: str  # я, он, мы or они
    noun: Noun | None = None

    def be(self, tense: str) -> str:
        """The English verb "to be" that goes with it."""
        if tense == "past":
            return "were" if self.past == "plural" else "was"
        return {"я": "am", "он": "is", "мы": "are", "они": "are"}[self.present]


# He and she cannot be told from each other in «я видел»: the verb tells who speaks.
PRONOUNS = [
    Subject(Pair("я", "I"), "m", "я"),
    Subject(Pair("я", "I"), "f", "я"),
    Subject(Pair("он", "he"), "m", "он"),
    Subject(Pair("она", "she"), "f", "он"),
    Subject(Pair("мы", "we"), "plural", "мы"),
    Subject(Pair("они", "they"), "plural", "они"),
]
HAVING = [("меня", "I"), ("тебя", "you"), ("него", "he"), ("неё", "she"), ("нас", "we"), ("них", "they")]
DAYS = [Pair("вчера", "yesterday"), Pair("сегодня", "today"), Pair("утром", "in the morning")]
COLOURS = ("white", "black", "grey", "red", "green", "blue")
PEOPLE = ("person", "kin", "name")
ANIMALS = ("small", "large")
LYING = ("книга", "письмо", "тетрадь", "карандаш", "шляпа", "яблоко", "груша", "мяч")
STANDING = ("ведро", "зеркало", "коробка", "стул", "кресло", "стол")
REST, ROAM = ("спал", "сидел", "лежал"), ("стоял", "играл", "гулял")
# Which goals a verb of motion has.
MOTION = {
    "прыгнул": "мат ковёр диван стул стол кровать крыша мост коробка кресло река озеро",
    "залез": "стул стол диван кровать крыша коробка кресло",
    "побежал": "сад лес парк дом комната мост",
}


def join(*parts: Pair) -> Pair:
    """Phrases one after another, in the same order in both languages."""
    return Pair(*(" ".join(filter(None, side)) for side in zip(*parts, strict=True)))


def sentence(pair: Pair, mark: str = "") -> Pair:
    """A capital at the beginning, a mark at the end."""
    return Pair(*(side[0].upper() + side[1:] + mark for side in pair))


def article(kind: str, english: str) -> str:
    """The noun's English with the article or determiner; an before a vowel."""
    if kind == "a" and english[0] in "aeiou":
        kind = "an"
    return f"{kind} {english}"


def preposition(word: str, following: str) -> str:
    """«С» becomes «со» before с, з, ш, ж and another consonant: со слоном, с собакой."""
    if word == "с" and following[0] in "сзшж" and following[1] not in "аеёиоуыэюя":
        return "со"
    return word


class Grammar:
    """Makes random sentences; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.templates: list[tuple[int, Callable[[], Pair]]] = [
            (7, self.transitive),
            (5, self.intransitive),
            (3, self.place_first),
            (3, self.having),
            (2, self.predicate),
            (3, self.motion),
            (2, self.giving),
            (2, self.with_someone),
            (3, self.question),
            (3, self.counting),
            (1, self.together),
            (1, self.naming),
        ]

    def __iter__(self) -> Iterator[Pair]:
        """Sentences without end."""
        weights, makers = zip(*self.templates, strict=True)
        while True:
            yield self.dice.choices(makers, weights)[0]()

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.dice.random() < probability

    def noun(self, *kinds: str, without: tuple[Noun | None, ...] = ()) -> Noun:
        """A noun of one of these kinds, and not one with the same English: no cat and cat."""
        taken = {noun.english for noun in without if noun}
        return self.dice.choice([noun for noun in NOUNS if noun.kind in kinds and noun.english not in taken])

    def adjectives(self, noun: Noun) -> list[Adjective]:
        """None, one or two that suit the noun: size, then age, then colour, as both languages have it."""
        if noun.kind == "name" or not self.chance(0.35):
            return []
        suitable = [adjective for adjective in ADJECTIVES if noun.kind in adjective.kinds]
        chosen = self.dice.sample(suitable, min(len(suitable), 1 + self.chance(0.2)))
        if len(chosen) == 2 and not (chosen[0].english in ("big", "small") and chosen[1].english in COLOURS):
            chosen = chosen[:1]
        return chosen

    def phrase(
        self, noun: Noun, case: Case, kind: str, owners: tuple[str, ...] = ("my", "your", "our")
    ) -> Pair:
        """The noun in its case, with an article or a determiner and perhaps adjectives. `kind` is "a" or "the"."""
        if noun.kind == "name":
            return Pair(noun.forms[case], noun.english)
        determiner = ""
        if owners and (noun.kind == "kin" or self.chance(0.12)):
            determiner = self.dice.choice(owners if noun.kind == "kin" else ("this", *owners))
        adjectives = self.adjectives(noun)
        russian = [adjective.form(noun, case) for adjective in adjectives] + [noun.forms[case]]
        if determiner:
            russian.insert(0, agree(DETERMINERS[determiner], noun, case))
        english = " ".join([*(adjective.english for adjective in adjectives), noun.english])
        return Pair(" ".join(russian), article(determiner or kind, english))

    def subject(self, *kinds: str, pronouns: float = 0.0) -> Subject:
        """A pronoun that often, else a noun of these kinds, known."""
        if self.chance(pronouns):
            return self.dice.choice(PRONOUNS)
        noun = self.noun(*kinds)
        return self.as_subject(noun, self.phrase(noun, "nominative", "the"))

    def as_subject(self, noun: Noun, phrase: Pair) -> Subject:
        """A noun phrase that a verb agrees with."""
        return Subject(phrase, noun.gender, "он", noun)

    def owners(self, subject: Subject) -> tuple[str, ...]:
        """Whose a thing may be: what is the subject's own would be «свой»."""
        own = {"I": "my", "we": "our"}.get(subject.phrase.english)
        if subject.phrase.english.startswith(("my ", "our ")):
            return ("your",)
        return tuple(owner for owner in ("my", "your", "our") if owner != own)

    def place(
        self, *kinds: str, kind: str = "a", without: tuple[Noun | None, ...] = (), small: bool = True
    ) -> Pair:
        """Where: the preposition and its case. Only what is small is found in a box or under a blanket."""
        narrow = (NOUN["коробка"], NOUN["одеяло"])
        places = [
            place
            for place in PLACES
            if place.kind in kinds and place.noun not in without and (small or place.noun not in narrow)
        ]
        return self.located(self.dice.choice(places), kind)

    def located(self, place: Place, kind: str) -> Pair:
        """A place as a phrase. Of owners only "our", which is right whoever acts: «я» would be in «своём» house."""
        owners = ("our",) if self.chance(0.3) else ()
        phrase = self.phrase(place.noun, place.case, kind, owners)
        return Pair(f"{place.preposition} {phrase.russian}", f"{place.english} {phrase.english}")

    def predicate_of(self, subject: Subject, verb: Verb, *, negated: bool = False) -> Pair:
        """The verb in agreement with its subject: in the present where it has one, more often in the past."""
        present = bool(verb.present) and self.chance(0.35)
        russian = verb.present[subject.present] if present else verb.past[subject.past]
        if not verb.progressive:
            english = f"did not {verb.base}" if negated else verb.simple
        else:
            be = subject.be("present" if present else "past")
            english = f"{be} not {verb.progressive}" if negated else f"{be} {verb.progressive}"
        return Pair(f"не {russian}" if negated else russian, english)

    def day(self, verb_phrase: Pair) -> Pair:
        """Sometimes the day in front of a sentence in the past."""
        past = not any(f" {be} " in f" {verb_phrase.english} " for be in ("am", "is", "are"))
        return self.dice.choice(DAYS) if past and self.chance(0.12) else Pair("", "")

    def transitive(self) -> Pair:
        """Вчера девочка видела чёрного кота в саду."""
        verb = self.dice.choice([VERBS["видел"], *(verb for verb in VERBS.values() if verb.objects)])
        beast = self.chance(0.15) and verb.past["m"] in ("видел", "заметил", "искал", "нашёл", "ел", "съел")
        subject = self.subject(*(ANIMALS if beast else PEOPLE), pronouns=0.0 if beast else 0.45)
        noun = self.noun(*verb.objects, without=(subject.noun,))
        thing = self.phrase(noun, "accusative", "a", self.owners(subject))
        action = self.predicate_of(subject, verb)
        where = Pair("", "")
        if self.chance(0.4) and noun.kind not in ("area", "rest"):
            rest = noun.kind in ("small", "thing", "text", "food", "fish")
            where = self.place("roam", *(("rest",) if rest else ()), without=(noun,))
        return sentence(join(self.day(action), subject.phrase, action, thing, where))

    def resting(self) -> tuple[Noun, Verb, tuple[str, ...]]:
        """Who or what is somewhere, what it does there, and in what kinds of place."""
        if self.chance(0.2):
            lying = self.chance(0.7)
            name = self.dice.choice(LYING if lying else STANDING)
            return NOUN[name], VERBS["лежал" if lying else "стоял"], ("rest",) if lying else ("roam",)
        noun = self.noun(*PEOPLE, *ANIMALS, "small")
        rest = self.chance(0.6) and noun.kind != "large"
        verb = VERBS[self.dice.choice(REST if rest else (*ROAM, *REST))]
        return noun, verb, ("rest",) if rest else ("roam",)

    def intransitive(self) -> Pair:
        """Котя спит на мате."""
        noun, verb, kinds = self.resting()
        subject = self.as_subject(noun, self.phrase(noun, "nominative", "the"))
        if noun.kind in PEOPLE and self.chance(0.6):
            subject = self.dice.choice(PRONOUNS)
        action = self.predicate_of(subject, verb, negated=self.chance(0.12))
        where = self.place(*kinds, without=(noun,), small=noun.kind not in PEOPLE)
        return sentence(join(self.day(action), subject.phrase, action, where))

    def place_first(self) -> Pair:
        """На мате спит котя: the place is known, who is there is new, and English turns the order round."""
        noun, verb, kinds = self.resting()
        where = self.place(*kinds, kind="the", without=(noun,), small=noun.kind not in PEOPLE)
        subject = self.as_subject(noun, self.phrase(noun, "nominative", "a"))
        action = self.predicate_of(subject, verb)
        return sentence(
            Pair(
                f"{where.russian} {action.russian} {subject.phrase.russian}",
                f"{subject.phrase.english} {action.english} {where.english}",
            )
        )

    def having(self) -> Pair:
        """У девочки есть кот, нет кота, был кот, не было кота."""
        noun = self.noun(*ANIMALS, "thing", "text", "food", "rest", "fish", "kin")
        if self.chance(0.5):
            who, owner = self.dice.choice(HAVING)
            third = owner in ("he", "she")
        else:
            holder = self.noun(*PEOPLE, without=(noun,))
            who, owner = self.phrase(holder, "genitive", "the")
            third = True
        form = self.dice.choice(("есть", "нет", "был", "не было"))
        lacking = form in ("нет", "не было")
        thing = self.phrase(noun, "genitive" if lacking else "nominative", "a", ())
        if form == "был":
            form = {"m": "был", "f": "была", "n": "было"}[noun.gender]
        english = {
            "есть": "has" if third else "have",
            "нет": "does not have" if third else "do not have",
            "не было": "did not have",
        }.get(form, "had")
        return sentence(Pair(f"у {who} {form} {thing.russian}", f"{owner} {english} {thing.english}"))

    def predicate(self) -> Pair:
        """Этот кот чёрный; моя собака была старая."""
        noun = self.noun(*ANIMALS, "thing", "text", "food", "rest", "area")
        adjective = self.dice.choice([adjective for adjective in ADJECTIVES if noun.kind in adjective.kinds])
        determiner = self.dice.choice(list(DETERMINERS))
        past = self.chance(0.3)
        was = {"m": "был ", "f": "была ", "n": "было "}[noun.gender] if past else ""
        owner = agree(DETERMINERS[determiner], noun, "nominative")
        russian = f"{owner} {noun.forms['nominative']} {was}{adjective.form(noun, 'nominative')}"
        return sentence(
            Pair(russian, f"{determiner} {noun.english} {'was' if past else 'is'} {adjective.english}")
        )

    def motion(self) -> Pair:
        """Кот прыгнул на стол: the same preposition as in «спит на столе», with another case."""
        name = self.dice.choice(list(MOTION))
        subject = self.subject(*PEOPLE, "small", "small", pronouns=0.2)
        person = subject.noun is None or subject.noun.kind in PEOPLE
        goals = [
            goal
            for goal in GOALS
            if goal.noun.forms["nominative"] in MOTION[name].split()
            and not (person and goal.noun.forms["nominative"] == "коробка")
            and not (name == "прыгнул" and goal.preposition == "под")
        ]
        action = self.predicate_of(subject, VERBS[name])
        return sentence(
            join(self.day(action), subject.phrase, action, self.located(self.dice.choice(goals), "a"))
        )

    def giving(self) -> Pair:
        """Мальчик дал сестре яблоко: whom is told by the dative, in English by "to" and the other order."""
        subject = self.subject(*PEOPLE, pronouns=0.5)
        shown = self.chance(0.5)
        kinds = ("thing", "text", "food", *(("small", "large") if shown else ("fish",)))
        whom = self.phrase(self.noun(*PEOPLE, without=(subject.noun,)), "dative", "a", self.owners(subject))
        what = self.phrase(self.noun(*kinds), "accusative", "a", self.owners(subject))
        action = self.predicate_of(subject, VERBS["показал" if shown else "дал"])
        return sentence(
            Pair(
                f"{subject.phrase.russian} {action.russian} {whom.russian} {what.russian}",
                f"{subject.phrase.english} {action.english} {what.english} to {whom.english}",
            )
        )

    def with_someone(self) -> Pair:
        """Девочка играла с котом; художник рисовал слона карандашом."""
        subject = self.subject(*PEOPLE, pronouns=0.45)
        if self.chance(0.3):
            action = self.predicate_of(subject, VERBS["рисовал"])
            thing = self.phrase(self.noun(*ANIMALS, "area"), "accusative", "a", self.owners(subject))
            tool = self.phrase(NOUN["карандаш"], "instrumental", "a", ())
            return sentence(join(subject.phrase, action, thing, Pair(tool.russian, f"with {tool.english}")))
        playing = self.chance(0.6)
        kinds = (*PEOPLE, "small", "small", *(() if playing else ("large",)))
        noun = NOUN["мяч"] if playing and self.chance(0.15) else self.noun(*kinds, without=(subject.noun,))
        action = self.predicate_of(subject, VERBS["играл" if playing else "гулял"])
        other = self.phrase(noun, "instrumental", "a", self.owners(subject))
        company = Pair(f"{preposition('с', other.russian)} {other.russian}", f"with {other.english}")
        where = self.place("roam") if self.chance(0.4) else Pair("", "")
        return sentence(join(subject.phrase, action, company, where))

    def question(self) -> Pair:
        """Где кот? Кто спит на мате? Ты видел котю? Чей это кот?"""
        which = self.dice.choice(("where", "who", "did", "whose"))
        if which == "where":
            noun = self.noun(*PEOPLE, *ANIMALS, "thing", "text")
            phrase = self.phrase(noun, "nominative", "the")
            return sentence(Pair(f"где {phrase.russian}", f"where is {phrase.english}"), "?")
        if which == "who":
            who = Subject(Pair("кто", "who"), "m", "он")
            rest = self.chance(0.6)
            action = self.predicate_of(who, VERBS[self.dice.choice(REST if rest else ROAM)])
            return sentence(join(who.phrase, action, self.place("rest" if rest else "roam", kind="the")), "?")
        if which == "whose":
            noun = self.noun(*ANIMALS, "thing", "text", "rest")
            whose = {"m": "чей", "f": "чья", "n": "чьё"}[noun.gender]
            return sentence(
                Pair(f"{whose} это {noun.forms['nominative']}", f"whose {noun.english} is this"), "?"
            )
        verb = self.dice.choice([verb for verb in VERBS.values() if verb.base and verb.objects])
        russian = self.dice.choice(
            (f"ты {verb.past['m']}", f"ты {verb.past['f']}", f"вы {verb.past['plural']}")
        )
        thing = self.phrase(self.noun(*verb.objects), "accusative", "a", ("my", "our"))
        return sentence(join(Pair(russian, f"did you {verb.base}"), thing), "?")

    def counted(self, case: Case) -> tuple[Pair, Noun]:
        """Два кота, две собаки, пять котов; as objects, animate ones are двух котов, трёх собак, but пять котов."""
        noun = self.dice.choice(
            [noun for noun in NOUNS if noun.genitive_plural != "-" and noun.kind not in ("kin", "area")]
        )
        number = self.dice.choice(("two", "three", "five") if case == "accusative" else ("two", "three"))
        if number == "five":
            russian = f"пять {noun.genitive_plural}"
        elif case == "accusative" and noun.animate:
            russian = f"{'двух' if number == 'two' else 'трёх'} {noun.genitive_plural}"
        else:
            two = "две" if noun.gender == "f" else "два"
            russian = f"{two if number == 'two' else 'три'} {noun.forms['genitive']}"
        return Pair(russian, f"{number} {noun.plural}"), noun

    def counting(self) -> Pair:
        """Я видел двух котов; на ковре спят две кошки."""
        phrase, noun = self.counted("accusative")
        verbs = [
            verb
            for verb in VERBS.values()
            if noun.kind in verb.objects
            and verb.past["m"] in ("видел", "заметил", "нашёл", "купил", "нарисовал")
        ]
        if self.chance(0.6):
            subject = self.subject(*PEOPLE, pronouns=0.5)
            action = self.predicate_of(subject, self.dice.choice(verbs))
            where = self.place("roam") if self.chance(0.3) and noun.kind != "rest" else Pair("", "")
            return sentence(join(subject.phrase, action, phrase, where))
        phrase, noun = self.counted("nominative")
        while not noun.animate:
            phrase, noun = self.counted("nominative")
        subject = Subject(phrase, "plural", "они", noun)
        rest = noun.kind == "small"
        action = self.predicate_of(subject, VERBS[self.dice.choice(REST if rest else ROAM)])
        where = self.place("rest" if rest else "roam", kind="the")
        return sentence(
            Pair(
                f"{where.russian} {action.russian} {phrase.russian}",
                f"{phrase.english} {action.english} {where.english}",
            )
        )

    def together(self) -> Pair:
        """Кот и собака спали на ковре."""
        first = self.subject("small", "small", *PEOPLE)
        second = self.noun("small", "small", *PEOPLE, without=(first.noun,))
        both = join(first.phrase, Pair("и", "and"), self.phrase(second, "nominative", "the"))
        subject = Subject(both, "plural", "они")
        rest = self.chance(0.5)
        action = self.predicate_of(subject, VERBS[self.dice.choice(REST if rest else ROAM)])
        where = self.place("rest" if rest else "roam", small=False)
        return sentence(join(subject.phrase, action, where))

    def naming(self) -> Pair:
        """Это мой кот; это не собака."""
        noun = self.noun("person", *ANIMALS, "thing", "text", "food", "rest", "fish")
        phrase = self.phrase(noun, "nominative", "a", ("my", "your", "our"))
        while phrase.english.startswith("this "):
            phrase = self.phrase(noun, "nominative", "a", ("my", "your", "our"))
        negated = self.chance(0.4)
        return sentence(
            join(Pair("это не" if negated else "это", "this is not" if negated else "this is"), phrase)
        )


class Corpus(NamedTuple):
    """What is learned from, what chooses the best model, and what is kept for the end."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]


SHOWN = (
    Pair("Я видел котю на мате", "I saw a cat on a mat"),
    Pair("На мате спит маленький котя", "A small cat is sleeping on the mat"),
    Pair("У художника нет слона", "The artist does not have an elephant"),
    Pair("Мальчик показал моей бабушке зелёную шляпу", "The boy showed a green hat to my grandmother"),
)
"""Sentences of the test set that the demo shows; the first is the lecture's."""


def make_corpus(train: int = 7000, dev: int = 200, test: int = 300, seed: int = 1) -> Corpus:
    """Distinct sentences; those of test and dev are not in training, and «котю на мате» is there in no sentence.

    Every word of test and dev does occur in training, in other company.
    """
    shown = {pair.russian for pair in SHOWN}
    pairs: dict[str, Pair] = {}
    for pair in Grammar(seed):
        if "котю на мате" not in pair.russian and pair.russian not in shown:
            pairs.setdefault(pair.russian, pair)
        if len(pairs) == train + dev + test:
            break
    made = list(pairs.values())
    known = {word for pair in made[:train] for word in words(pair)}
    held_out = [pair for pair in made[train:] if known.issuperset(words(pair))]
    return Corpus(made[:train], held_out[:dev], [*SHOWN, *held_out[dev:]])


def words(pair: Pair) -> list[str]:
    """The words of both sides, as they are written in the middle of a sentence."""
    return [word.lower() for side in pair for word in side.rstrip("?").split()]
