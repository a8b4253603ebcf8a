"""The demo's sentences: one translation each, agreement read again from the words, held-out ones held out."""

import re
from functools import cache

import pytest

from kotya.demo.grammar import SHOWN, Corpus, Grammar, Pair, make_corpus, words
from kotya.demo.lexicon import ADJECTIVES, CASES, DETERMINERS, NOUN, NOUNS, PLACES, VERBS, Case, agree

LECTURE = "Я видел котю на мате"
CASES_AFTER: dict[str, set[Case]] = {
    "на": {"locative", "accusative"},
    "в": {"locative", "accusative"},
    "под": {"instrumental", "accusative"},
    "за": {"instrumental"},
    "с": {"instrumental"},
    "со": {"instrumental"},
    "у": {"genitive"},
    "нет": {"genitive"},
}
PRONOUNS = {"он": ("m", "он"), "она": ("f", "он"), "они": ("plural", "они"), "мы": ("plural", "мы")}


@cache
def corpus() -> Corpus:
    return make_corpus()


@cache
def sentences() -> tuple[Pair, ...]:
    return tuple(pair for pair, _ in zip(Grammar(7), range(20_000), strict=False))


def test_the_lectures_sentence_is_new_but_its_words_are_not() -> None:
    train = corpus().train
    assert Pair(LECTURE, "I saw a cat on a mat") == corpus().test[0]
    assert not any("котю на мате" in pair.russian for pair in train)
    for word in LECTURE.lower().split():
        others = {pair.russian for pair in train if word in words(pair)}
        assert len(others) >= 20, word


def test_sets_are_distinct_and_known_word_by_word() -> None:
    train, dev, test = corpus()
    everything = [pair.russian for part in (train, dev, test) for pair in part]
    assert len(train) >= 5000
    assert len(test) >= 250
    assert len(set(everything)) == len(everything)
    known = {word for pair in train for word in words(pair)}
    assert all(known.issuperset(words(pair)) for pair in [*dev, *test])
    assert set(SHOWN) <= set(test)


def test_the_same_seed_makes_the_same_corpus() -> None:
    assert make_corpus(500, 20, 20, seed=3) == make_corpus(500, 20, 20, seed=3)
    assert make_corpus(500, 20, 20, seed=3) != make_corpus(500, 20, 20, seed=4)


def test_the_translation_is_a_function_of_the_source() -> None:
    found: dict[str, str] = {}
    for russian, english in sentences():
        assert found.setdefault(russian, english) == english


def test_every_template_is_used() -> None:
    grammar = Grammar(1)
    for _, make in grammar.templates:
        russian, english = make()
        for text in (russian, english):
            assert text[0].isupper()
            assert text == " ".join(text.split())
        assert russian.endswith("?") == english.endswith("?")


def test_articles() -> None:
    for _, english in sentences():
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", english, re.IGNORECASE), english
        assert not re.search(r"\b(a|an|the|my|your|our|this) (a|an|the|my|your|our|Masha|Peter)\b", english)


def modifiers(name: str, case: Case) -> set[str]:
    """All that may stand before a noun in a case: determiners and adjectives that agree with it."""
    noun = NOUN[name]
    paradigms = {agree(paradigm, noun, case) for paradigm in DETERMINERS.values()}
    return paradigms | {adjective.form(noun, case) for adjective in ADJECTIVES}


def test_what_follows_a_preposition_stands_in_its_case() -> None:
    by_form: dict[str, list[tuple[str, Case]]] = {}
    for noun in NOUNS:
        for case, form in noun.forms.items():
            by_form.setdefault(form, []).append((noun.forms["nominative"], case))
    checked = 0
    for russian, _ in sentences():
        tokens = (russian[0].lower() + russian[1:]).rstrip("?").split()
        for place, token in enumerate(tokens):
            if token not in CASES_AFTER or tokens[place + 1] in ("меня", "тебя", "него", "неё", "нас", "них"):
                continue
            end = next(index for index in range(place + 1, len(tokens)) if tokens[index] in by_form)
            before = tokens[place + 1 : end]
            assert any(
                case in CASES_AFTER[token] and all(word in modifiers(name, case) for word in before)
                for name, case in by_form[tokens[end]]
            ), russian
            checked += 1
    assert checked > 5000


def test_verbs_agree_with_pronouns() -> None:
    forms = {
        pronoun: {verb.past[past] for verb in VERBS.values()}
        | {verb.present[present] for verb in VERBS.values() if verb.present}
        for pronoun, (past, present) in PRONOUNS.items()
    }
    english = {"он": "he", "она": "she", "они": "they", "мы": "we"}
    seen = set()
    for russian, translation in sentences():
        first, *rest = russian.lower().split()
        if first in forms:
            verb = rest[1] if rest[0] == "не" else rest[0]
            assert verb in forms[first], russian
            assert translation.lower().startswith(f"{english[first]} "), translation
            seen.add(first)
    assert seen == set(forms)


@pytest.mark.parametrize(
    ("past", "ending"), [("m", ("л", "залез")), ("f", ("ла",)), ("n", ("ло",)), ("plural", ("ли",))]
)
def test_past_tense_endings(past: str, ending: tuple[str, ...]) -> None:
    for verb in VERBS.values():
        assert verb.past[past].endswith(ending)


# Written down by hand, apart from the tables.
@pytest.mark.parametrize(
    ("noun", "case", "phrase"),
    [
        ("кот", "accusative", "моего чёрного кота"),
        ("котя", "accusative", "моего чёрного котю"),
        ("котя", "instrumental", "моим чёрным котей"),
        ("кошка", "accusative", "мою чёрную кошку"),
        ("кошка", "genitive", "моей чёрной кошки"),
        ("зеркало", "dative", "моему чёрному зеркалу"),
        ("диван", "accusative", "мой чёрный диван"),
        ("диван", "locative", "моём чёрном диване"),
        ("заяц", "genitive", "моего чёрного зайца"),
        ("пёс", "dative", "моему чёрному псу"),
        ("осёл", "instrumental", "моим чёрным ослом"),
        ("мышь", "instrumental", "моей чёрной мышью"),
        ("ковёр", "locative", "моём чёрном ковре"),
    ],
)
def test_paradigms(noun: str, case: Case, phrase: str) -> None:
    black = next(adjective for adjective in ADJECTIVES if adjective.english == "black")
    word = NOUN[noun]
    assert phrase == f"{agree(DETERMINERS['my'], word, case)} {black.form(word, case)} {word.forms[case]}"


@pytest.mark.parametrize(
    ("english", "noun", "forms"),
    [
        ("big", "кот", "большой большого большому большого большим большом"),
        ("big", "сад", "большой большого большому большой большим большом"),
        ("small", "окно", "маленькое маленького маленькому маленькое маленьким маленьком"),
        ("blue", "шляпа", "синяя синей синей синюю синей синей"),
        ("blue", "ведро", "синее синего синему синее синим синем"),
        ("young", "врач", "молодой молодого молодому молодого молодым молодом"),
        ("new", "книга", "новая новой новой новую новой новой"),
    ],
)
def test_adjectives(english: str, noun: str, forms: str) -> None:
    adjective = next(adjective for adjective in ADJECTIVES if adjective.english == english)
    assert [adjective.form(NOUN[noun], case) for case in CASES] == forms.split()


def test_accusatives_by_animacy() -> None:
    """In -а, -я: -у, -ю. Other masculines: as the genitive if alive, and all else as the nominative."""
    for noun in NOUNS:
        nominative, accusative = noun.forms["nominative"], noun.forms["accusative"]
        if nominative[-1] in "ая":
            assert accusative == nominative[:-1] + {"а": "у", "я": "ю"}[nominative[-1]]
        elif noun.gender == "m" and noun.animate:
            assert accusative == noun.forms["genitive"]
        else:
            assert accusative == nominative


def test_the_same_place_with_another_case() -> None:
    """«На столе» and «на стол» differ in where and where to, so places never are in the accusative."""
    assert {place.case for place in PLACES} == {"locative", "instrumental", "genitive"}
